"""A chip in a few lines: `base:` and what differs, with dotted or nested keys."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dse.errors import Fault, InputError
from dse.spec import axis
from dse.spec.composer import Steps, dotted
from dse.spec.hardware import FIELDS, HardwareSpec
from dse.spec.reading import Document, build

MAX_VARIANTS = 10_000
_LISTS = ("aliases", "prices")
_FLAT = ("sources",)
_NOT_COLUMNS = ("name", "notes", "vendor", "kind", "architecture", "box_of")


@dataclass(frozen=True)
class Override:
    """One value that differs from the base."""

    target: tuple[str, ...]
    """Its path in the hardware file."""
    value: Any
    origin: Steps
    """Where the user wrote it."""
    ranged: bool = False
    """Its choices came of a range: they have no places of their own."""

    @property
    def key(self) -> str:
        """The dotted path of the target."""
        return ".".join(self.target)

    @property
    def is_choice(self) -> bool:
        """A list that stands for several chips, not for a list-valued field."""
        return isinstance(self.value, list | tuple) and self.target[0] not in _LISTS

    @property
    def is_column(self) -> bool:
        """A scalar worth a column of its own."""
        scalar = isinstance(self.value, int | float | str) and not isinstance(self.value, bool)
        return scalar and self.target[0] not in (*_NOT_COLUMNS, *_FLAT)


def overrides(value: Mapping[str, Any], document: Document, at: Steps) -> list[Override]:
    """What a mapping with `base` changes, in its order.

    Raises:
        InputError: a target given twice, dotted and nested; a range that is empty or no range.
    """
    found = list(_walk({key: item for key, item in value.items() if key != "base"}, (), tuple(at), document))
    seen: set[tuple[str, ...]] = set()
    faults = []
    for override in found:
        if override.target in seen:
            message = "given twice, as a dotted key and nested; keep one of them"
            faults.append(document.fault(override.origin, message, key=True))
        seen.add(override.target)
    if faults:
        raise InputError(faults)
    return found


def _walk(value: Mapping[str, Any], target: tuple[str, ...], origin: tuple[str | int, ...],
          document: Document) -> Iterator[Override]:  # fmt: skip
    for key, item in value.items():
        steps = (key,) if target and target[0] in _FLAT else tuple(key.split("."))
        path, place = (*target, *steps), (*origin, key)
        if _is_range(item) or (isinstance(item, list) and any(map(_is_range, item))):
            numbers = axis.reals(document, place, item, most=math.inf)
            yield Override(path, [int(n) if n.is_integer() else n for n in numbers], place, ranged=True)
        elif isinstance(item, Mapping):
            yield from _walk(item, path, place, document)
        else:
            yield Override(path, item, place)


def _is_range(item: Any) -> bool:
    """`{from, to, step}`, as on any axis: no part of a chip has a field `from`."""
    return isinstance(item, Mapping) and "from" in item


def variants(found: list[Override], document: Document, at: Steps) -> list[list[Override]]:
    """Lists among the overrides multiplied out, the last one fastest."""
    count = 1
    for override in found:
        if override.is_choice:
            if not override.value:
                raise InputError(document.fault(override.origin, "an empty list; give at least one value"))
            for index, item in enumerate([] if override.ranged else override.value):
                if item in override.value[:index]:
                    raise InputError(document.fault((*override.origin, index), f"{item} is given twice"))
            count *= len(override.value)
    if count > MAX_VARIANTS:
        raise InputError(document.fault(at, f"{count} variants of one chip; at most {MAX_VARIANTS}"))
    return [list(choice) for choice in itertools.product(*(_choices(override) for override in found))]


def _choices(override: Override) -> list[Override]:
    if not override.is_choice:
        return [override]
    if override.ranged:
        return [replace(override, value=item) for item in override.value]
    return [
        replace(override, value=item, origin=(*override.origin, index)) for index, item in enumerate(override.value)
    ]


def derive(base: HardwareSpec, changes: list[Override], document: Document, at: Steps,
           varied: frozenset[str] = frozenset()) -> HardwareSpec:  # fmt: skip
    """`base` with some values changed.

    A changed number's source becomes "override" unless the changes bring a source for it. Aliases are
    not inherited: they name the base.

    Args:
        base: the chip to start from.
        changes: what differs; None removes a value.
        document: where the changes were written.
        at: the place of the mapping in it.
        varied: targets that differ among variants of one mapping: they go into the name.
    """
    data = base.model_dump(exclude_none=True, exclude={"aliases"})
    if any(change.target[0] == "calibration" for change in changes):
        data.pop("calibration", None)  # a calibration is one whole: what was fitted on the base is not mixed in
    own_sources = {change.target[1] for change in changes if change.target[0] == "sources"}
    sources = data.setdefault("sources", {})
    for change in changes:
        _assign(data, change, document)
        if change.key in FIELDS and _is_number(change.value) and not _covered(change.key, own_sources):
            sources[change.key] = "override"
    data["name"] = _name(base, changes, varied)
    merged = _Merged(document, at, changes)
    return build(HardwareSpec, merged, data)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _covered(key: str, sources: set[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in sources)


def _assign(data: dict[str, Any], change: Override, document: Document) -> None:
    *parents, last = change.target
    for depth, step in enumerate(parents):
        data = data.setdefault(step, {})
        if not isinstance(data, dict):
            name = ".".join(change.target[: depth + 1])
            raise InputError(document.fault(change.origin, f"{name} has no parts", key=True))
    if change.value is None:
        data.pop(last, None)
    else:
        data[last] = change.value


def _name(base: HardwareSpec, changes: list[Override], varied: frozenset[str]) -> Any:
    """The name given, or the base's; with what tells the variants apart in brackets."""
    given = next((change.value for change in changes if change.target == ("name",)), None)
    if given is not None and not isinstance(given, str):
        return given
    shown = [c for c in changes if c.is_column and (given is None or c.key in varied)]
    text = ",".join(f"{c.key}={_short(c.value)}" for c in shown)
    name = base.name if given is None else given
    return f"{name}[{text}]" if text else name


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.10g}"


class _Merged(Document):
    """Faults in a merged specification, told where the user wrote what caused them."""

    def __init__(self, document: Document, at: Steps, changes: list[Override]) -> None:
        super().__init__(document.file, document.value, document.text)
        object.__setattr__(self, "_written", (document, tuple(at), changes))

    def fault(self, path: Steps, message: str, *, key: bool = False) -> Fault:
        """As `Document.fault`, `path` being one of the merged specification."""
        document: Document
        document, at, changes = self.__dict__["_written"]
        steps = tuple(path)
        for change in changes:
            if steps[: len(change.target)] == change.target:
                return document.fault((*change.origin, *steps[len(change.target) :]), message, key=key)
        for change in changes:  # a missing part of something the user began
            if steps and change.target[: len(steps)] == steps:
                own = document.fault(change.origin, message, key=True)
                return Fault(message, dotted((*at, *steps)), own.file, own.line, own.column)
        own = document.fault((*at, "base"), message, key=True)
        return Fault(message, dotted((*at, *steps)), own.file, own.line, own.column)
