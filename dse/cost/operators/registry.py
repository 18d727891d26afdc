"""The table from component type to operator function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from dse.cost.setting import Setting
from dse.cost.work import Work

Operator = Callable[[Any, int, Setting], list[Work]]
F = TypeVar("F", bound=Operator)

OPERATORS: dict[type, Operator] = {}


def operator(component: type) -> Callable[[F], F]:
    """Register the function that gives a component's work.

    Raises:
        ValueError: the component already has one.
    """

    def register(function: F) -> F:
        if component in OPERATORS:
            raise ValueError(f"{component.__name__} already has an operator function")
        OPERATORS[component] = function
        return function

    return register


def works_of(component: object, hidden: int, setting: Setting) -> list[Work]:
    """The component's operators in the order they run."""
    return OPERATORS[type(component)](component, hidden, setting)
