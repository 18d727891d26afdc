"""Pydantic models of the user's words, and their errors as sentences with a place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails

from dse.errors import Fault, InputError
from dse.spec.composer import shorten

if TYPE_CHECKING:
    from dse.spec.reading import Document

Model = TypeVar("Model", bound=BaseModel)
_Path = tuple[str | int, ...]
_FROM_DOCUMENT: Any = object()


def _accept_lists(schema: Any) -> None:
    if isinstance(schema, dict):
        if schema.get("type") == "tuple":
            schema["strict"] = False
        for part in schema.values():
            _accept_lists(part)
    elif isinstance(schema, list):
        for part in schema:
            _accept_lists(part)


class Strict(BaseModel):
    """Base of every validated word: frozen, no unknown fields, no text or bool taken for a number.

    Lists are accepted for tuples, the only conversion there is beside whole numbers for floats.
    """

    # Not use_attribute_docstrings: it parses the source of every class at import, half of its cost.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic's strict mode wants a tuple for a tuple; YAML only has lists."""
        schema = handler(source)
        _accept_lists(schema)
        return schema


def suggest(word: str, options: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the option nearest to `word`, or nothing."""
    near = closest(word, options)
    return f"; did you mean {near!r}?" if near is not None else ""


def closest(word: str, options: Iterable[str]) -> str | None:
    """The option nearest to `word` but for case and separators, if any is near."""
    plain = {re.sub(r"[\s_-]+", "-", option.lower()): option for option in options}
    found = difflib.get_close_matches(re.sub(r"[\s_-]+", "-", word.lower()), plain, n=1)
    return plain[found[0]] if found else None


def show(value: Any) -> str:
    """A value in a message: short, and in the words of the file."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            return shorten(repr(value), 60)
    return shorten(str(value))


def build(cls: type[Model], document: Document, value: Any = _FROM_DOCUMENT,
          at: Sequence[str | int] = ()) -> Model:  # fmt: skip
    """Validate a document, or its part at path `at`, as `cls`.

    Args:
        cls: the model.
        document: gives the places for faults.
        value: what to validate; by default what the document holds at `at`.
        at: path of the value in the document.

    Raises:
        InputError: every fault at once, in the order of the file.
    """
    if value is _FROM_DOCUMENT:
        value = document.value
        for step in at:
            value = value[step]
    try:
        return cls.model_validate(value)
    except ValidationError as error:
        raise InputError(_faults(cls, document, value, tuple(at), error)) from None


def _faults(cls: type[BaseModel], document: Document, value: Any, at: _Path,
            error: ValidationError) -> list[Fault]:  # fmt: skip
    details = _settle_unions(error.errors(include_url=False), value)
    near: set[tuple[_Path, str]] = set()
    faults = []
    for detail in details:
        path = _path(detail, value)
        if detail["type"] == "extra_forbidden":
            names = _fields(cls, path[:-1])
            word = str(detail["loc"][-1])
            if (match := closest(word, names)) is not None:
                near.add((path[:-1], match))
                hint = f"; did you mean {match!r}?"
            else:
                hint = f"; expected one of {', '.join(sorted(names))}"
            faults.append(document.fault((*at, *path), f"unknown field{hint}", key=True))
    for detail in details:
        path = _path(detail, value)
        if detail["type"] == "extra_forbidden":
            continue
        if detail["type"] == "missing":
            if (path, str(detail["loc"][-1])) not in near:
                faults.append(document.fault((*at, *path), f"missing field '{detail['loc'][-1]}'"))
            continue
        is_key = "[key]" in detail["loc"]
        faults.append(document.fault((*at, *path), _sentence(detail), key=is_key))
    return sorted(faults, key=lambda fault: (fault.line or 0, fault.column or 0, fault.field, fault.message))


def _path(detail: ErrorDetails, value: Any) -> _Path:
    """The part of pydantic's location that exists in the value: not the labels of union members."""
    path: _Path = ()
    for step in detail["loc"]:
        if _has(value, step):
            value = value[step]
            path = (*path, step)
    return path


def _has(value: Any, step: str | int) -> bool:
    if isinstance(value, list | tuple):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value


def _settle_unions(details: list[ErrorDetails], value: Any) -> list[ErrorDetails]:
    """Pydantic reports every member of a union; keep the one the user meant, or say all as one.

    A member that failed further inside than at the value itself is the one meant.
    """
    groups: dict[tuple[_Path, int], list[ErrorDetails]] = {}
    kept = []
    for detail in details:
        if (label := _union_label(detail, value)) is None:
            kept.append(detail)
        else:
            groups.setdefault((detail["loc"][:label], label), []).append(detail)
    for (_, label), members in groups.items():
        by_member: dict[str | int, list[ErrorDetails]] = {}
        for detail in members:
            by_member.setdefault(detail["loc"][label], []).append(detail)
        inside = [group for group in by_member.values() if any(len(d["loc"]) > label + 1 for d in group)]
        if inside:
            kept += sorted(inside, key=len)[0]
        elif any(d["type"] not in _EXPECTED for d in members):
            kept += [d for d in members if d["type"] not in _EXPECTED][:1]
        else:
            wanted = list(dict.fromkeys(_EXPECTED[d["type"]] for d in members))
            kept.append({**members[0], "type": "union", "ctx": {"expected": " or ".join(wanted)}})
    return kept


def _union_label(detail: ErrorDetails, value: Any) -> int | None:
    """Where in the location a union member is named, if it is."""
    loc = detail["loc"][:-1] if detail["type"] == "missing" else detail["loc"]
    for index, step in enumerate(loc):
        if not _has(value, step):
            return None if step == "[key]" else index
        value = value[step]
    return None


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _fields(cls: type[BaseModel], path: _Path) -> set[str]:
    """Names of the fields a mapping at `path` may have."""
    models: set[type[BaseModel]] = {cls}
    for step in path:
        fields = [model.model_fields[step] for model in models if step in model.model_fields]
        if fields:  # else a list index or the key of a dict: the models below stay the same
            models = {model for field in fields for model in _models(field.annotation)}
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


_EXPECTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "none_required": "nothing",
}
_BOUNDS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}


def _sentence(detail: ErrorDetails) -> str:
    """What is wrong and what would be right, of one pydantic error."""
    kind, given, context = detail["type"], show(detail["input"]), detail.get("ctx", {})
    if kind == "union":
        return f"expected {context['expected']}, got {given}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {given}{_per_cent(detail['input'], kind == 'float_type')}"
    if kind in _BOUNDS:
        name, sign = _BOUNDS[kind]
        share = name in ("lt", "le") and 0 < context[name] <= 1
        return f"must be {sign} {context[name]:g}, got {given}{_per_cent(detail['input'], share)}"
    if kind == "literal_error":
        options = re.findall(r"'([^']*)'", str(context["expected"]))
        hint = suggest(str(detail["input"]), options)
        return f"{given} is not one of {', '.join(options)}{hint}"
    if kind == "finite_number":
        return f"expected a finite number, got {given}"
    if kind == "too_short":
        return f"needs at least {context['min_length']}, got {context['actual_length']}"
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "value_error":
        return str(context["error"])
    return f"{detail['msg'][0].lower()}{detail['msg'][1:]}, got {given}"


_PER_CENT = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*%")


def _per_cent(given: Any, wanted: bool) -> str:
    """A hint where per cent stand for a share: `20%`, or 20 where at most 1 is right."""
    text = _PER_CENT.fullmatch(given.strip()) if isinstance(given, str) else None
    if text is None and not (isinstance(given, int | float) and 2 <= given <= 100):
        return ""
    value = float(text[1]) if text else float(given)
    return f"; {value:g} % is {value / 100:g}" if wanted else ""
