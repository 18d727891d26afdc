"""Where named files lie: the user's own folder before the library, names before aliases."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dse.errors import Fault, InputError
from dse.spec.composer import compose, shorten
from dse.spec.reading import Document, exists, library_file, read, show, suggest


@dataclass(frozen=True)
class Shelf:
    """Where specifications of one kind lie."""

    word: str
    plural: str
    folder: str
    suffixes: tuple[str, ...]


MODELS = Shelf("model", "models", "configs/models", (".json",))
HARDWARE = Shelf("hardware", "hardware", "hardware", (".yaml", ".yml"))

_FILE_NAME = re.compile(r"\w[\w.+ -]{0,99}")
_ALIASES = re.compile(r"^aliases:.*(?:\n[ \t\-\]].*)*", re.MULTILINE)


def locate(shelf: Shelf, entry: Any, document: Document, skip: tuple[str, ...] = ()) -> Path:
    """The file that a name or path means; a name passes over the files in `skip` where it can."""
    if not isinstance(entry, str | Path) or not str(entry):
        raise InputError(f"expected the name or the path of a {shelf.word} file, got {show(entry)}")
    if isinstance(entry, Path) or _looks_like_path(entry):
        return _existing(shelf, str(entry), document)
    passed = None
    for path in _candidates(shelf, entry):
        if real_path(path) not in skip:
            return path
        passed = passed or path
    if passed:
        return passed
    if "/" in entry or os.sep in entry:  # an unknown Hugging Face id, or a folder
        return _existing(shelf, entry, document)
    known = [spelling for folder in _folders(shelf) for spelling in _index(shelf, folder)]
    hint = suggest(entry, [*names(shelf), *known])
    listing = f"'dse list {shelf.plural}' shows all"
    raise InputError(f"unknown {shelf.word} {show(entry)}{f'{hint} {listing}' if hint else f'; {listing}'}")


def _looks_like_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or text.lower().endswith((".json", ".yaml", ".yml"))


def _existing(shelf: Shelf, text: str, document: Document) -> Path:
    path = Path(text).expanduser()
    beside = Path(document.file).parent / path
    for candidate in (beside, path):
        if exists(candidate):
            if shelf is HARDWARE and candidate.is_dir():
                raise InputError(f"{candidate} is a folder; expected a hardware file")
            return candidate
    known = "" if _looks_like_path(text) else f", and no {shelf.word} of that name in the library"
    name = Path(text).stem if known == "" else text.rsplit("/", 1)[-1]
    hint = suggest(name, names(shelf))
    raise InputError(f"no such file or folder: {shorten(text, 200)}{known}{hint}")


def _candidates(shelf: Shelf, name: str) -> Iterator[Path]:
    """Files of that name or alias, the user's own first; aliases are only read when names fail."""
    folders = list(_folders(shelf))
    spelling = plain_name(name)
    if _FILE_NAME.fullmatch(name):
        for folder in (*folders[:-1], Path(), folders[-1]):
            for suffix in shelf.suffixes:
                for stem in dict.fromkeys((name, spelling)):
                    path = folder / f"{stem}{suffix}"
                    if path.is_file():
                        yield path
    for folder in folders:
        if spelling in (index := _index(shelf, folder)):
            yield index[spelling]


def _folders(shelf: Shelf) -> Iterator[Path]:
    """The user's own folder where there is one, then the library's."""
    library = library_file(shelf.folder)
    own = Path(shelf.folder)
    if own.is_dir() and own.resolve() != library:
        yield own
    yield library


def names(shelf: Shelf) -> list[str]:
    """Every name on the shelf, the user's own included."""
    return sorted({path.stem for folder in _folders(shelf) for path in _files(shelf, folder)})


def _files(shelf: Shelf, folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in shelf.suffixes)


def plain_name(name: str) -> str:
    """The spelling names are compared in: case, and runs of space, `_` and `-`, do not matter."""
    return re.sub(r"[\s_-]+", "-", name.strip().lower())


def _index(shelf: Shelf, folder: Path) -> dict[str, Path]:
    """Spelling -> file, of file names and aliases; an alias never hides a file name."""
    files = _files(shelf, folder)
    index = {plain_name(path.stem): path for path in files}
    common = folder / "aliases.yaml"
    if shelf is MODELS and common.is_file():
        by_stem = {path.stem: path for path in files}
        for stem, aliases in _alias_file(str(common), *version(common)).items():
            for alias in aliases:
                if stem in by_stem:
                    index.setdefault(plain_name(alias), by_stem[stem])
    if shelf is HARDWARE:
        for path in files:
            for alias in _aliases_in(str(path), *version(path)):
                index.setdefault(plain_name(alias), path)
    return index


def files_with(shelf: Shelf, field: str, word: str) -> list[Path]:
    """Files that have a field at the first column and hold a word, or a `base` that may; the user's own first."""
    found: dict[str, Path] = {}
    for folder in _folders(shelf):
        for path in _holding(shelf, folder, version(folder), field, word):
            found.setdefault(path.stem, path)
    return [found[stem] for stem in sorted(found)]


@lru_cache(maxsize=64)
def _holding(shelf: Shelf, folder: Path, changed: tuple[str, int], field: str, word: str) -> tuple[Path, ...]:
    """Of one folder, read again when a file in it comes, goes or is replaced."""
    return tuple(path for path in _files(shelf, folder) if _holds(path, field, word))


def _holds(path: Path, field: str, word: str) -> bool:
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False  # a broken file says so when it is itself asked for
    return f"\n{field}:" in content and (word in content or re.search("^base:", content, re.MULTILINE) is not None)


def real_path(path: Path) -> str:
    """The path without links and dots: one file, one text."""
    return os.path.realpath(path)


def version(path: Path) -> tuple[str, int]:
    """What tells one content of a file from another: where it really is, and its time of change."""
    try:
        return real_path(path), path.stat().st_mtime_ns
    except (OSError, ValueError):
        return str(path), 0  # reading it says what is wrong


@lru_cache(maxsize=16)
def _alias_file(path: str, real: str, changed: int) -> dict[str, list[str]]:
    value = read(path).value
    if not isinstance(value, Mapping) or not all(isinstance(entry, list) for entry in value.values()):
        raise InputError(Fault("expected lines of the form name: [alias, alias]", file=path))
    return {stem: [alias for alias in entry if isinstance(alias, str)] for stem, entry in value.items()}


@lru_cache(maxsize=1024)
def _aliases_in(path: str, real: str, changed: int) -> tuple[str, ...]:
    """The `aliases:` of a file without parsing the rest: a lookup by alias would read every file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        found = _ALIASES.search(text)
        root = compose(found[0]) if found else None
    except (OSError, ValueError, InputError):
        return ()  # a broken file says so when it is itself asked for
    aliases = root.value.get("aliases") if root and isinstance(root.value, Mapping) else None
    return tuple(alias for alias in aliases or () if isinstance(alias, str))
