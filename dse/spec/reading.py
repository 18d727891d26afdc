"""Files of the user -> plain values that remember where they stand -> validated words.

`read` gives a `Document`; `build` turns it, or a part of it, into a pydantic model and every
mistake into a `Fault` with file, line, column and what would be right.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dse.errors import Fault, InputError
from dse.spec.composer import MAX_DEPTH, MAX_INT, Node, Steps, compose, dotted, places, shorten
from dse.spec.shape import Strict, build, closest, show, suggest

__all__ = [
    "Document",
    "Strict",
    "beside",
    "build",
    "closest",
    "dotted",
    "exists",
    "from_value",
    "library_file",
    "read",
    "show",
    "suggest",
]

MAX_BYTES = 8_000_000
_NOT_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Document:
    """A parsed file, or a value from Python, that can say where each part of it stands."""

    file: str
    """As the user wrote the path; empty for a value from Python."""
    value: Any
    text: str | None = field(default=None, repr=False)
    """The file's text, from which positions are found when first asked for."""

    @cached_property
    def _tree(self) -> Node | None:
        """JSON is (nearly) YAML: where its text is not, positions are simply missing."""
        return None if self.text is None else places(self.text)

    def place(self, path: Steps, key: bool = False) -> tuple[int, int] | None:
        """Line and column (1-based) of the value at `path`, or of the nearest parent there is.

        Args:
            path: keys and list indices from the root.
            key: the place of the last key rather than of its value.
        """
        node = self._tree
        if node is None:
            return None
        for position, step in enumerate(path):
            try:
                child = node.children[step]  # type: ignore[index]
            except (TypeError, KeyError, IndexError):
                break
            if key and position == len(path) - 1 and isinstance(step, str):
                return node.keys[step]
            node = child
        return node.line, node.column

    def fault(self, path: Steps, message: str, *, key: bool = False) -> Fault:
        """A fault at `path`, located as `place` says."""
        line, column = self.place(path, key) or (None, None)
        return Fault(message, dotted(path), self.file, line, column)

    @contextmanager
    def at(self, path: Steps) -> Iterator[None]:
        """Faults raised inside that name no file are this document's, at `path`."""
        try:
            yield
        except InputError as error:
            raise InputError([self._adopt(fault, path) for fault in error.faults]) from None

    def _adopt(self, fault: Fault, path: Steps) -> Fault:
        if fault.file:
            return fault
        own = self.fault(path, fault.message)
        name = f"{own.field}.{fault.field}" if own.field and fault.field else own.field or fault.field
        return Fault(fault.message, name, own.file, own.line, own.column)


def read(path: str | Path) -> Document:
    """The document in a file: JSON where the name ends in `.json`, YAML otherwise.

    Raises:
        InputError: the file is missing, a folder, unreadable, not text, empty, too large or malformed.
    """
    file = str(path)
    text = text_of(file)
    if Path(file).suffix.lower() == ".json":
        return _read_json(file, text)
    if wrong := _NOT_TEXT.search(text):
        place = text.count("\n", 0, wrong.start()) + 1, wrong.start() - text.rfind("\n", 0, wrong.start())
        raise InputError(Fault(f"not a text file: holds the character {wrong[0]!r}", "", file, *place))
    root = compose(text, file)
    if root is None:
        raise InputError(Fault("the file is empty", file=file))
    document = Document(file, root.value, text)
    document.__dict__["_tree"] = root  # composed already: no need to do it again
    return document


def from_value(value: Any, file: str = "") -> Document:
    """A document from a Python value: numpy numbers and arrays become plain, numbers are checked."""
    faults: list[Fault] = []
    plain = _plain(value, (), Document(file, None), faults)
    if faults:
        raise InputError(faults)
    return Document(file, plain)


def library_file(path: str) -> Path:
    """A file or folder of the library (`configs/...`, `hardware/...`, `sweeps/...`).

    An installed wheel carries the library inside the package; a checkout has it beside the package.
    """
    package = Path(__file__).resolve().parent.parent
    inside = package / "library"
    return (inside if inside.is_dir() else package.parent) / path


def text_of(file: str, most: int = MAX_BYTES) -> str:
    """The text of a file of at most so many bytes.

    Raises:
        InputError: the file is missing, a folder, unreadable, not text, empty or too large.
    """
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(most + 1)
    except FileNotFoundError:
        raise InputError(Fault(f"no such file{_near(Path(file))}", file=file)) from None
    except IsADirectoryError:
        raise InputError(Fault("is a folder; expected a file", file=file)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(Fault(f"cannot be read: {reason}", file=file)) from None
    if len(data) > most:
        raise InputError(Fault(f"larger than {most // 10**6} MB; expected a short text file", file=file))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(Fault(f"not UTF-8 text (byte {error.start}); save it as UTF-8", file=file)) from None
    if not text.strip():
        raise InputError(Fault("the file is empty", file=file))
    return text


def beside(document: Document, name: str) -> str:
    """A path beside the file that names it, else from the working folder."""
    path = Path(name).expanduser()
    near = Path(document.file).parent / path
    return str(near if exists(near) else path)


def exists(path: Path) -> bool:
    """Whether a path leads to something; one too long for any, or with a NUL in it, does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _near(path: Path) -> str:
    """A hint from the folder the file should be in."""
    try:
        return suggest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return f"; the folder {path.parent} is not there either"


class _DuplicateError(Exception):
    """A JSON object has a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateError(next(key for key in keys if keys.count(key) > 1))
    return result


def _read_json(file: str, text: str) -> Document:
    """`Infinity` and `NaN` pass here (Hugging Face writes them); numbers that count reject them."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_int=json_int)
    except json.JSONDecodeError as error:
        raise InputError(Fault(json_syntax(error, text), "", file, error.lineno, error.colno)) from None
    except _DuplicateError as error:
        compose(text, file)  # says where both stand
        raise InputError(Fault("duplicate key; keep one of them", str(error), file)) from None
    except RecursionError:
        raise InputError(Fault(f"nested too deep; at most {MAX_DEPTH} levels", file=file)) from None
    document = Document(file, value, text)
    faults: list[Fault] = []
    _plain(value, (), document, faults, finite=False)
    if faults:
        raise InputError(faults)
    return document


def json_int(digits: str) -> int:
    """A whole number; one of a hundred digits is as good as too large."""
    return int(digits) if len(digits) < 80 else MAX_INT + 1


def json_syntax(error: json.JSONDecodeError, text: str) -> str:
    """What is wrong with a JSON text, in words."""
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return "not valid JSON: the file ends in the middle of a value; it is truncated"
    return f"not valid JSON: {error.msg[0].lower()}{error.msg[1:]}"


def _plain(value: Any, path: tuple[str | int, ...], document: Document, faults: list[Fault],
           finite: bool = True) -> Any:  # fmt: skip
    """`value` with lists for tuples and arrays; what no file could say is a fault."""
    if len(path) > MAX_DEPTH:
        faults.append(document.fault(path[:1], f"nested too deep; at most {MAX_DEPTH} levels"))
        return None
    if hasattr(value, "tolist"):  # numpy, pandas
        value = value.tolist()
    if isinstance(value, dict):
        odd = [key for key in value if not isinstance(key, str)]
        faults += [document.fault(path, f"a key must be text, got {show(key)}") for key in odd]
        return {
            key: _plain(item, (*path, key), document, faults, finite)
            for key, item in value.items() if isinstance(key, str)
        }  # fmt: skip
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, index), document, faults, finite) for index, item in enumerate(value)]
    if isinstance(value, int) and abs(value) > MAX_INT:
        faults.append(document.fault(path, "the number is too large; expected at most 2^63"))
    elif finite and isinstance(value, float) and not math.isfinite(value):
        faults.append(document.fault(path, f"expected a finite number, got {shorten(str(value))}"))
    return value
