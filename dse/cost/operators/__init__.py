"""Operators of a transformer, one function per kind of component, found by the component's type.

An operator function takes the component, the model's hidden width and the `Setting`, and returns the
`Work` of one layer on one device. To add one: write the function in its own file, decorate it with
`@operator(TheComponent)`; the contract tests in tests/cost/test_operators.py run on it at once.
"""

from __future__ import annotations

from dse.cost.operators import attention, latent, linear, moe, state  # noqa: F401  (they register themselves)
from dse.cost.operators.registry import OPERATORS, operator, works_of

__all__ = ["OPERATORS", "operator", "works_of"]
