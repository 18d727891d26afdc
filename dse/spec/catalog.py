"""Names, aliases, paths and inline mappings -> specifications.

A name is looked for in the working folder first, then in the library; a path is taken beside the
file that names it, then from the working folder. Files are parsed once per version of their content.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from dse.errors import Fault, InputError
from dse.spec.composer import Steps
from dse.spec.derive import Override, derive, overrides, variants
from dse.spec.hardware import HardwareSpec
from dse.spec.model import ModelSpec
from dse.spec.precision import Precision
from dse.spec.reading import Document, build, from_value, read
from dse.spec.shelf import HARDWARE, MODELS, files_with, locate, names, real_path, version
from dse.spec.transfer import with_calibration

_NOWHERE = Document("", None)


def load_model(entry: str | Path | ModelSpec, document: Document | None = None, at: Steps = ()) -> ModelSpec:
    """The model a user means by a name, an alias (Hugging Face ids too), or a path.

    Args:
        entry: a name; a `config.json` or any `*.json`, or the folder of a `config.json`; or a `ModelSpec`.
        document: the file the entry stands in, for positions in messages and for relative paths.
        at: where in the document it stands.

    Raises:
        InputError: unknown name, no such file, or a config that is not understood.
    """
    if isinstance(entry, ModelSpec):
        return entry
    document = document or _NOWHERE
    with document.at(at):
        path = locate(MODELS, entry, document)
        if path.is_dir():
            path = path / "config.json"
            if not path.is_file():
                raise InputError(
                    f"the folder {path.parent} has no config.json; expected the folder of a model, or a file"
                )
        return _model(str(path), *version(path))


def load_hardware(
    entry: str | Path | Mapping[str, Any] | HardwareSpec, document: Document | None = None, at: Steps = ()
) -> HardwareSpec:
    """The accelerator a user means by a name, an alias, a path, or an inline mapping.

    Args:
        entry: a name or path; a mapping with `base` and what differs, or a whole specification.
        document: the file the entry stands in, for positions in messages and for relative paths.
        at: where in the document it stands.

    Raises:
        InputError: unknown name, no such file, all faults of the specification, or a list of choices.
    """
    found = expand_hardware(entry, document, at)
    if len(found) > 1:
        place = document or _NOWHERE
        raise InputError(place.fault(at, f"stands for {len(found)} chips; expected one"))
    return found[0][0]


def expand_hardware(
    entry: str | Path | Mapping[str, Any] | HardwareSpec, document: Document | None = None, at: Steps = ()
) -> list[tuple[HardwareSpec, dict[str, float | str]]]:
    """As `load_hardware`, with lists inside a mapping multiplied out.

    Returns:
        Each chip, with the dotted keys that differ from its base and their values. Names are unique
        within the list: `mi300x[memory.capacity_gb=256]`.
    """
    if isinstance(entry, HardwareSpec):
        return [(entry, {})]
    if isinstance(entry, Mapping):
        if document is None:
            document = from_value(dict(entry))
            found = _expand(document.value, document, (), ())
        else:
            found = _expand(entry, document, at, ())
        return [(_calibrated(chip), changed) for chip, changed in found]
    document = document or _NOWHERE
    with document.at(at):
        path = locate(HARDWARE, entry, document)
        return [(_calibrated(_hardware(path, ())), {})]


def hardware_name(entry: str, document: Document | None = None) -> str:
    """What the accelerator is called that a user means by a name, an alias or a path.

    Args:
        entry: the word.
        document: the file it stands in, for relative paths.

    Raises:
        InputError: unknown name, no such file, or all faults of the specification.
    """
    return _hardware(locate(HARDWARE, entry, document or _NOWHERE), ()).name


def load_precision(
    entry: str | Mapping[str, Any] | Precision, document: Document | None = None, at: Steps = ()
) -> Precision:
    """The precision scheme a user means by a name, an alias, or an inline mapping.

    Raises:
        InputError: unknown name, or all faults of the mapping.
    """
    from dse.spec.precision import parse_precision

    return parse_precision(entry, document, tuple(at))


def model_names() -> list[str]:
    """Every model that has a name: the library's and those in `./configs/models`."""
    return names(MODELS)


def hardware_names() -> list[str]:
    """Every accelerator that has a name: the library's and those in `./hardware`."""
    return names(HARDWARE)


def chip_names() -> list[str]:
    """Every accelerator that has a name, but for files that describe a particular box of another."""
    return [name for name in hardware_names() if not _is_box(name)]


def _is_box(name: str) -> bool:
    try:
        return load_hardware(name).box_of is not None
    except InputError:  # a broken file says so where it is used
        return False


def precision_names() -> list[str]:
    """Every precision scheme that has a name."""
    from dse.spec.precision import library_precisions

    return list(library_precisions())


def _hardware(path: Path, chain: tuple[str, ...]) -> HardwareSpec:
    """The specification in a file; `chain` holds the files that are being derived from it."""
    document = _document(str(path), *version(path))
    value = document.value
    if not isinstance(value, Mapping) or "base" not in value:
        return _whole(str(path), *version(path))
    own = {"name": path.stem, **value}
    found = _expand(own, document, (), (*chain, real_path(path)))
    if len(found) > 1:
        raise InputError(document.fault((), f"stands for {len(found)} chips; expected one per file"))
    return found[0][0]


def _expand(
    entry: Mapping[str, Any], document: Document, at: Steps, chain: tuple[str, ...]
) -> list[tuple[HardwareSpec, dict[str, float | str]]]:
    if "base" not in entry:
        return [(build(HardwareSpec, document, entry, at), {})]
    base = _base(entry["base"], document, (*at, "base"), chain)
    changes = overrides(entry, document, at)
    varied = frozenset(change.key for change in changes if change.is_choice)
    found, faults = [], list[Fault]()
    for choice in variants(changes, document, at):
        try:
            found.append((derive(base, choice, document, at, varied), _columns(choice)))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return found


def _columns(choice: list[Override]) -> dict[str, float | str]:
    return {change.key: change.value for change in choice if change.is_column}


def _base(entry: Any, document: Document, at: Steps, chain: tuple[str, ...]) -> HardwareSpec:
    if isinstance(entry, HardwareSpec):
        return entry
    with document.at(at):
        path = locate(HARDWARE, entry, document, chain)
        if real_path(path) in chain:
            loop = (*chain[chain.index(real_path(path)) :], str(path))
            raise InputError(f"derives from itself: {' -> '.join(Path(step).name for step in loop)}")
        return _hardware(path, chain)


def _calibrated(chip: HardwareSpec) -> HardwareSpec:
    """The chip with the efficiencies it uses: its own, and those of relatives on the shelf."""
    # Only chips of one vendor are relatives: the others' files need not be parsed.
    found = []
    for path in files_with(HARDWARE, "calibration", chip.vendor):
        with suppress(InputError):  # a broken file says so when it is itself asked for
            found.append(_hardware(path, ()))
    return with_calibration(chip, found)


@lru_cache(maxsize=1024)
def _document(path: str, real: str, changed: int) -> Document:
    return read(path)


@lru_cache(maxsize=1024)
def _whole(path: str, real: str, changed: int) -> HardwareSpec:
    return build(HardwareSpec, _document(path, real, changed))


@lru_cache(maxsize=1024)
def _model(path: str, real: str, changed: int) -> ModelSpec:
    from dse.spec.huggingface import read_model

    return read_model(path)
