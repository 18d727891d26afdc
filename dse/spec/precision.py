"""Precision schemes: a number format for each kind of tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

from dse.spec.formats import (
    GROUPING,
    PLAIN,
    Format,
    FormatReader,
    format_name,
    library_formats,
    parse_format,
    plain,
    precisions_file,
    without_notes,
)
from dse.spec.reading import Document, show, suggest

__all__ = [
    "Format",
    "Precision",
    "format_name",
    "library_aliases",
    "library_notes",
    "library_precisions",
    "parse_format",
    "parse_precision",
]


@dataclass(frozen=True, slots=True)
class Precision:
    """One precision scheme: a format for each kind of tensor."""

    name: str
    weights: Format
    activations: Format
    kv_cache: Format
    embeddings: Format
    """Embedding and lm_head."""
    attention: Format
    """Type in which attention scores and values are multiplied."""
    projections: Format
    """Weights of the attention and state-space projections: those of `weights` unless stated (the published
    MXFP4 and INT4 checkpoints of gpt-oss and Kimi quantise their experts and leave these in 16 bit)."""


TENSORS = tuple(field.name for field in fields(Precision))[1:]
_FIELDS = ("name", "base", *TENSORS, *GROUPING)


def parse_precision(value: Any, document: Document | None = None,
                    path: Sequence[str | int] = ()) -> Precision:  # fmt: skip
    """The scheme meant by a library name, an alias of one, or a mapping.

    What a mapping does not state is not quantised: weights, activations, KV cache, embeddings (with
    the lm_head) and the arithmetic of attention default to one 16-bit type: that of the activations
    where they are not quantised, else that of the weights, else bf16. `group_size`, `scale_bits`,
    `zero_bits` and `symmetric` describe the weights; inside a tensor's own mapping, that tensor. With
    `base`, the name of a scheme, what is not stated is as there.
    A mapping equal to a library scheme takes its name, another is named after its formats.

    Args:
        value: a name, a mapping, or a `Precision` (returned as it is).
        document: the file the value stands in, for positions in messages.
        path: where in the document it stands.

    Raises:
        InputError: all faults of the value.
    """
    if isinstance(value, Precision):
        return value
    reader = _SchemeReader(document, library_formats())
    at = tuple(path)
    scheme = reader.named(value, at) if isinstance(value, str) else reader.described(value, at)
    reader.check()
    assert scheme is not None, "no scheme, and no fault that says why"
    return scheme


def library_precisions() -> Mapping[str, Precision]:
    """The schemes of `configs/precisions.yaml` by name, in the order of the file."""
    return _schemes()


def library_notes() -> Mapping[str, tuple[str, str]]:
    """Per library scheme: what it is, and where its numbers come from."""
    entries = precisions_file().value["schemes"]
    return {name: (entry["note"], entry["source"]) for name, entry in entries.items()}


def library_aliases() -> Mapping[str, str]:
    """Other spellings of the library schemes, each with the name it means."""
    entries = precisions_file().value["schemes"]
    return {alias: name for name, entry in entries.items() for alias in entry.get("aliases", ())}


@cache
def _schemes() -> dict[str, Precision]:
    document = precisions_file()
    reader = _SchemeReader(document, library_formats())
    found = {
        name: reader.described({"name": name, **without_notes(entry)}, ("schemes", name))
        for name, entry in document.value["schemes"].items()
    }
    reader.check()
    return {name: scheme for name, scheme in found.items() if scheme is not None}


class _SchemeReader(FormatReader):
    """Reads schemes and collects what is wrong with them."""

    def named(self, name: str, path: tuple[str | int, ...]) -> Precision | None:
        """The library scheme of this name or alias."""
        schemes, aliases = library_precisions(), library_aliases()
        names = {plain(known): known for known in schemes} | {plain(a): known for a, known in aliases.items()}
        if plain(name) in names:
            return schemes[names[plain(name)]]
        if plain(name) in self.known:
            hint = f"; for that format of weights write {{weights: {plain(name)}}}"
        else:
            hint = suggest(name, names)
        self.report(path, f"no precision is named {show(name)}{hint}; `dse list precisions` shows all")
        return None

    def described(self, value: Any, path: tuple[str | int, ...]) -> Precision | None:
        """The scheme a mapping describes, or None with the faults recorded."""
        if not isinstance(value, Mapping):
            self.report(path, f"expected a precision's name or a mapping with weights, got {show(value)}")
            return None
        before = len(self.faults)
        self.unknown(value, _FIELDS, path)
        base = self._base(value, path)
        if base is None and not value.keys() & set(TENSORS) and len(self.faults) == before:
            self.report(path, f"says nothing of any tensor; expected one of {', '.join(TENSORS)}")
        given = {tensor: self.format(value[tensor], (*path, tensor)) for tensor in TENSORS if tensor in value}
        name = value.get("name", "")
        if not isinstance(name, str) or (not name and "name" in value):
            self.report((*path, "name"), f"expected text, got {show(name)}")
        self._weight_groups(value, given, path)
        if len(self.faults) > before:
            return None
        stated = {tensor: form for tensor, form in given.items() if form is not None}
        rest = {tensor: getattr(base, tensor) for tensor in TENSORS} if base else _defaults(stated)
        if base is None or base.projections == base.weights:
            rest["projections"] = (rest | stated)["weights"]
        scheme = Precision(name, **rest | stated)
        return scheme if name else replace(scheme, name=_name(scheme))

    def _base(self, value: Mapping[str, Any], path: tuple[str | int, ...]) -> Precision | None:
        if "base" not in value:
            return None
        if not isinstance(value["base"], str):
            self.report((*path, "base"), f"expected a precision's name, got {show(value['base'])}")
            return None
        return self.named(value["base"], (*path, "base"))

    def _weight_groups(self, value: Mapping[str, Any], given: dict[str, Format | None],
                       path: tuple[str | int, ...]) -> None:  # fmt: skip
        """Apply the group fields beside `weights` to the weights."""
        stated = {field: value[field] for field in GROUPING if field in value}
        if not stated:
            return
        if "weights" not in value:
            first = next(iter(stated))
            self.report((*path, first), "describes the weights, of which nothing is said; state weights")
        weights = given.get("weights")
        if weights is None:
            return
        own = value["weights"]
        if twice := [field for field in stated if isinstance(own, Mapping) and field in own]:
            self.report((*path, twice[0]), f"also stated in weights.{twice[0]}; keep one of them", key=True)
        else:
            given["weights"] = self.grouped(weights, stated, path)


def _defaults(stated: Mapping[str, Format]) -> dict[str, Format]:
    """The one 16-bit (or wider) type of what is not stated."""
    wide = [form for tensor in ("activations", "weights") if (form := stated.get(tensor)) and form.wide]
    return dict.fromkeys(TENSORS, wide[0] if wide else PLAIN["bf16"])


def _name(scheme: Precision) -> str:
    """The library's name of an equal scheme, else one made of the formats that differ from the default."""
    for known in library_precisions().values():
        if replace(known, name="") == scheme:
            return known.name
    short = {
        "weights": "w", "activations": "a", "kv_cache": "kv", "embeddings": "emb", "attention": "attn",
        "projections": "proj",
    }  # fmt: skip
    usual = _defaults({"activations": scheme.activations, "weights": scheme.weights})
    usual["projections"] = scheme.weights
    always = ("weights", "activations", "kv_cache")
    return "_".join(
        f"{short[tensor]}-{format_name(form)}"
        for tensor in TENSORS
        if (form := getattr(scheme, tensor)) != usual[tensor] or tensor in always
    )
