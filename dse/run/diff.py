"""What changed between two runs: inputs, counts and fronts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dse.run.folder import Run


def diff_runs(a: Run, b: Run) -> dict[str, Any]:
    """Differences from run `a` to run `b`, as plain values.

    Returns:
        `inputs`: (path, before, after) for every resolved value that differs; `counts`: points and statuses;
        `front`: configurations that joined, left, or stayed with other figures.
    """
    before, after = a.manifest, b.manifest
    return {
        "a": {"name": before["name"], "hash": before["hash"], "version": before["version"]},
        "b": {"name": after["name"], "hash": after["hash"], "version": after["version"]},
        "inputs": [list(change) for change in _changes(before["resolved"], after["resolved"], "")],
        "counts": [
            [name, before["statuses"].get(name, 0), after["statuses"].get(name, 0)]
            for name in dict.fromkeys((*before["statuses"], *after["statuses"]))
            if before["statuses"].get(name, 0) != after["statuses"].get(name, 0)
        ],
        "front": _front(a, b),
    }


def _changes(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys((*a, *b)):
            yield from _changes(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(a, list) and isinstance(b, list) and _named(a) and _named(b):
        left, right = ({item["name"]: item for item in items} for items in (a, b))
        for name in dict.fromkeys((*left, *right)):
            yield from _changes(left.get(name), right.get(name), f"{path}[{name}]")
    elif a != b and not (a != a and b != b):
        yield path, _short(a), _short(b)


def _named(items: Sequence[Any]) -> bool:
    return bool(items) and all(isinstance(item, Mapping) and "name" in item for item in items)


def _short(value: Any) -> Any:
    """A value that is there or not, without its whole content."""
    if isinstance(value, Mapping):
        return value.get("name", "present")
    if isinstance(value, list) and len(value) > 12:
        return f"{len(value)} values"
    return value


def _front(a: Run, b: Run) -> dict[str, Any]:
    axes = [name for name in a.manifest["axes"] if name in b.manifest["axes"]]
    metrics = [o["name"] for o in a.manifest["objectives"] if o in b.manifest["objectives"]]
    left, right = (_by_configuration(run, axes) for run in (a, b))
    changed = []
    for key in left.keys() & right.keys():
        moved = {
            name: [left[key][name], right[key][name]] for name in metrics if left[key].get(name) != right[key].get(name)
        }
        if moved:
            changed.append({"configuration": dict(zip(axes, key, strict=True)), "moved": moved})
    return {
        "before": len(left),
        "after": len(right),
        "joined": [dict(zip(axes, key, strict=True)) for key in right if key not in left],
        "left": [dict(zip(axes, key, strict=True)) for key in left if key not in right],
        "changed": sorted(changed, key=lambda change: str(change["configuration"])),
    }


def _by_configuration(run: Run, axes: Sequence[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {tuple(row[axis] for axis in axes): row for row in run.rows()}
