"""Sweeps and plans by name: the user's own file, else the library's, else what may have been meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dse.errors import Fault, InputError
from dse.spec.reading import exists, library_file, suggest


@dataclass(frozen=True)
class Kind:
    """What a file of the library is, and where it lies."""

    word: str
    """As the command that runs it."""
    folder: str
    beside: tuple[str, ...]
    """Folders a user may write before its name."""

    def names(self) -> list[str]:
        """Every one there is."""
        return sorted(path.stem for path in library_file(self.folder).glob("*.yaml"))

    def shipped(self, path: Path) -> Path | None:
        """The file of the library that a path, or a bare name, means."""
        if path.suffix not in ("", ".yaml") or str(path.parent) not in self.beside:
            return None
        found = library_file(self.folder) / f"{path.stem}.yaml"
        return found if exists(found) else None


SWEEP = Kind("sweep", "sweeps", (".", "sweeps"))
PLAN = Kind("plan", "sweeps/plans", (".", "plans", "sweeps/plans"))


def file_meant(source: str | Path, *kinds: Kind) -> str | Path:
    """The file meant: the user's own, else the library's by its name (`quickstart`, `sweeps/quickstart.yaml`).

    Args:
        source: what the user wrote.
        kinds: what is wanted.

    Raises:
        InputError: there is no such file, and a name near to it, or a file of the other kind.
    """
    path = Path(source)
    if exists(path):
        return source
    found = next(filter(None, (kind.shipped(path) for kind in kinds)), None)
    if found is not None:
        return found
    for kind in (SWEEP, PLAN):
        if kind not in kinds and kind.shipped(path) is not None:
            message = f"is a {kind.word} of the library; run it with 'dse {kind.word} {path.stem}'"
            raise InputError(Fault(message, file=str(source)))
    if path.suffix == "" and str(path.parent) == ".":
        words = " or ".join(kind.word for kind in kinds)
        lists = " and ".join(f"'dse list {kind.word}s'" for kind in kinds)
        hint = suggest(path.name, _near(path, kinds))
        message = f"no such file, and no {words} of that name in the library"
        raise InputError(Fault(f"{message}{hint or f'; see {lists}'}", file=str(source)))
    if path.suffix == ".yaml" and (hint := suggest(path.name, _near(path, kinds))):
        raise InputError(Fault(f"no such file{hint}", file=str(source)))
    return source  # reading it says what is wrong


def _near(path: Path, kinds: tuple[Kind, ...]) -> Iterator[str]:
    """Names that may stand there: of the user's files beside it, then of the library's."""
    if exists(path.parent):
        yield from (entry.name for entry in path.parent.glob("*.yaml"))
    for kind in kinds:
        if str(path.parent) in kind.beside:
            yield from (f"{name}{path.suffix}" for name in kind.names())
