"""YAML text -> plain values, with the place of every key and value.

Works on PyYAML's event stream, not on its node composer, for three reasons: the composer recurses
in C and a few thousand `[` crash the process; PyYAML resolves YAML 1.1, where `no` is False and
`1e9` is text; and it keeps the last of two equal keys without a word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from dse.errors import Fault, InputError

Steps = Sequence[str | int]
"""Where a value stands: keys and list indices from the root."""
MAX_DEPTH = 100
TOO_DEEP = f"nested too deep; at most {MAX_DEPTH} levels"
MAX_NODES = 100_000
MAX_INT = 2**63

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NUMERIC = frozenset("+-.0123456789")
"""What a number begins with, or what would be one."""
_WORDS = {"": None, "~": None} | {
    spelling: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for spelling in (word, word.capitalize(), word.upper())
}
_TAG = "tag:yaml.org,2002:"
_DEFAULT_TAGS = {None, "!", f"{_TAG}seq", f"{_TAG}map"}


@dataclass(slots=True)
class Node:
    """A value and where it stands (1-based)."""

    line: int
    column: int
    value: Any = None
    children: dict[str, Node] | list[Node] | None = None
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Where each key of a mapping stands."""
    size: int = 1
    """Nodes below and including this one, aliases counted each time they are used."""
    merge: bool = False
    """This is the plain key `<<`."""


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    node: Node
    anchor: str | None
    key: Node | None = None
    merged: list[Node] = field(default_factory=list)


def compose(text: str, file: str = "") -> Node | None:
    """The tree of the one document in `text`, or None where there is none.

    Raises:
        InputError: syntax, duplicate or non-text keys, numbers out of range, alias bombs, too deep.
    """
    composer = _Composer(file)
    composer.compose(text)
    if composer.faults:
        raise InputError(composer.faults)
    return composer.root


def places(text: str) -> Node | None:
    """The tree of `text` for its positions only: faults are somebody else's to tell."""
    composer = _Composer("")
    composer.compose(text)
    return composer.root


class _Composer:
    """One pass over the events; collects faults that do not stop it and raises them together."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self.anchors: dict[str, Node] = {}
        self.open: list[_Open] = []
        self.root: Node | None = None
        self.documents = 0

    def compose(self, text: str) -> None:
        try:
            for event in _events(text):
                self._take(event)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            # libyaml itself stops at a thousand levels, before it hands out the first of them.
            too_deep = "maximum nesting depth" in (getattr(error, "problem", None) or "")
            self._report(line, column, TOO_DEEP if too_deep else f"not valid YAML: {_syntax(error, text)}")
        except _StopError:
            pass

    def _report(self, line: int, column: int, message: str, key: str = "") -> None:
        self.faults.append(Fault(message, key, self.file, line, column))

    def _stop(self, line: int, column: int, message: str) -> None:
        self._report(line, column, message)
        raise _StopError

    def _take(self, event: Any) -> None:
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        if type(event) is yaml.ScalarEvent:  # most events are
            node = self._scalar(event, Node(line, column))
            self._anchor(event.anchor, node)
            self._attach(node)
            return
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    self._stop(line, column, "a second document starts here; expected one per file")
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                if len(self.open) >= MAX_DEPTH:
                    self._stop(line, column, TOO_DEEP)
                if event.tag not in _DEFAULT_TAGS:
                    self._report(line, column, f"the tag {event.tag!r} is not supported; leave it out")
                is_list = isinstance(event, yaml.SequenceStartEvent)
                node = Node(line, column, [] if is_list else {}, [] if is_list else {})
                self.open.append(_Open(node, event.anchor))
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                done = self.open.pop()
                self._merge(done)
                self._anchor(done.anchor, done.node)
                self._attach(done.node)
            case yaml.AliasEvent():
                name = str(event.anchor)
                if name not in self.anchors:
                    self._stop(line, column, f"the alias *{name} names no finished anchor above it")
                self._attach(self.anchors[name])

    def _anchor(self, name: str | None, node: Node) -> None:
        if name is not None:
            self.anchors[name] = node

    def _attach(self, node: Node) -> None:
        if not self.open:
            self.root = node
            return
        parent = self.open[-1]
        parent.node.size += node.size
        if parent.node.size > MAX_NODES:
            self._stop(
                parent.node.line, parent.node.column,
                f"expands to more than {MAX_NODES} values; aliases of aliases multiply",
            )  # fmt: skip
        if isinstance(parent.node.children, list):
            parent.node.children.append(node)
            parent.node.value.append(node.value)
        elif parent.key is None:
            parent.key = node
        else:
            self._pair(parent, parent.key, node)
            parent.key = None

    def _pair(self, parent: _Open, key: Node, node: Node) -> None:
        if key.merge:
            parent.merged.append(node)
            return
        if not isinstance(key.value, str):
            shown = key.value if isinstance(key.value, int | float) else "something else"
            self._report(key.line, key.column, f"a key must be text, got {shown}; put it in quotes")
            return
        owner = parent.node
        assert isinstance(owner.children, dict)
        if key.value in owner.children:
            line, column = owner.keys[key.value]
            first = f"already given at {line}:{column}"
            self._report(key.line, key.column, f"duplicate key; {first}, keep one of them", self._here())
            return
        owner.keys[key.value] = key.line, key.column
        owner.children[key.value] = node
        owner.value[key.value] = node.value

    def _here(self) -> str:
        """The dotted path of what is being read."""
        steps: list[str | int] = []
        for frame in self.open:
            if isinstance(frame.node.children, list):
                steps.append(len(frame.node.children))
            elif frame.key is not None:
                steps.append(str(frame.key.value))
        return dotted(steps)

    def _merge(self, done: _Open) -> None:
        """Fill in what `<<` brings; keys of the mapping itself win, then the earlier source."""
        owner = done.node
        for given in done.merged:
            for source in given.children if isinstance(given.children, list) else [given]:
                if not isinstance(source.children, dict):
                    self._report(source.line, source.column, "'<<' merges mappings only", "<<")
                    continue
                assert isinstance(owner.children, dict)
                for key in source.children.keys() - owner.children.keys():
                    owner.keys[key] = source.keys[key]
                for key, child in source.children.items():
                    owner.children.setdefault(key, child)
                    owner.value.setdefault(key, child.value)

    def _scalar(self, event: Any, node: Node) -> Node:
        text: str = event.value
        if event.tag not in _DEFAULT_TAGS and event.tag != f"{_TAG}str":
            self._report(node.line, node.column, f"the tag {event.tag!r} is not supported; leave it out")
        if event.style or event.tag is not None:  # quoted, block, or tagged as text
            node.value = text
            return node
        node.merge = text == "<<"
        node.value = self._plain(text, node)
        return node

    def _plain(self, text: str, node: Node) -> Any:
        """A plain scalar by the YAML 1.2 core schema (spec 1.2.2, section 10.3.2)."""
        if text in _WORDS:
            return _WORDS[text]
        if text[0] not in _NUMERIC:
            return text
        if _INT.fullmatch(text):
            value = int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(text) < 80 else MAX_INT + 1
            if abs(value) > MAX_INT:
                self._too_large(text, node, "2^63")
            return value
        if _FLOAT.fullmatch(text):
            number = float(text)
            if not math.isfinite(number):
                self._too_large(text, node, "1.8e308")
            return number
        if _NOT_FINITE.fullmatch(text):
            right = "give digits, or leave it out for the default"
            self._report(node.line, node.column, f"expected a finite number, got {text}; {right}", self._here())
            return 0.0
        return text

    def _too_large(self, text: str, node: Node, most: str) -> None:
        right = f"expected at most {most}; put it in quotes if it is text"
        self._report(node.line, node.column, f"the number {shorten(text)} is too large; {right}", self._here())


class _StopError(Exception):
    """Reading further makes no sense; the fault is recorded."""


def _events(text: str) -> Iterator[Any]:
    loader = _LOADER(text)
    try:
        while (event := loader.get_event()) is not None:
            yield event
    finally:
        loader.dispose()


def _syntax(error: yaml.YAMLError, text: str) -> str:
    """PyYAML's words, with where the broken construct began and the usual cause."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    message = error.problem or "cannot be read"
    if error.context and error.context_mark:
        start = f"{error.context_mark.line + 1}:{error.context_mark.column + 1}"
        message = f"{message} {error.context} that starts at {start}"
    line = text.splitlines()[error.problem_mark.line :][:1] if error.problem_mark else []
    if line and "\t" in line[0][: len(line[0]) - len(line[0].lstrip())]:
        message += "; indent with spaces, not tabs"
    return message


def dotted(path: Steps) -> str:
    """`("models", 0, "name")` -> `models[0].name`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            word = step if step.isprintable() else repr(step)[1:-1]
            text += f".{word}" if text else word
    return text


def shorten(text: str, limit: int = 40) -> str:
    """Text for a message: the first characters, and how many there are when it is long."""
    return text if len(text) <= limit else f"{text[: limit - 10]}... ({len(text)} characters)"
