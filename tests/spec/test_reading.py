"""Reading files: every mistake is told with its place, and nothing else ever escapes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from dse.errors import Fault, InputError
from dse.spec.reading import Document, Strict, build, dotted, from_value, read, suggest


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def faults_of(path: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(path)
    return str(caught.value).replace(str(Path(path).parent) + "/", "").splitlines()


# --- YAML 1.2 core scalars --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("off", "off"), ("Yes", "Yes"), ("on", "on"), ("y", "y"),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("12", 12), ("-7", -7), ("010", 10), ("0o17", 15), ("0x1F", 31),
        ("1e9", 1e9), ("9.89e14", 9.89e14), ("1.", 1.0), (".5", 0.5), ("-2.5E-3", -0.0025),
        ("1_000", "1_000"), ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("1024x256", "1024x256"),
        ("'12'", "12"), ('"true"', "true"), ("!!str 5", "5"), ("=", "="),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(tmp_path, text, value):
    found = read(write(tmp_path, "a.yaml", f"x: {text}\n")).value["x"]
    assert found == value
    assert type(found) is type(value)


def test_aliases_and_merge_keys_work(tmp_path):
    text = "base: &b {p: 1, q: 2}\nown: {<<: *b, q: 3}\ntwo: {<<: [*b, {p: 9, z: 1}]}\nsame: *b\n"
    value = read(write(tmp_path, "a.yaml", text)).value
    assert value["own"] == {"p": 1, "q": 3}
    assert value["two"] == {"p": 1, "q": 2, "z": 1}
    assert value["same"] == value["base"]


def test_a_quoted_merge_key_is_a_plain_key(tmp_path):
    assert read(write(tmp_path, "a.yaml", "a: {'<<': 4}\n")).value == {"a": {"<<": 4}}


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    assert read(write(tmp_path, "a.yaml", "\ufeffa: 1\n")).value == {"a": 1}


# --- the gallery: one bad file, its exact message ---------------------------------------------

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)

GALLERY = {
    "empty.yaml": ("", ["empty.yaml: the file is empty"]),
    "comments.yaml": ("# nothing\n\n", ["comments.yaml: the file is empty"]),
    "flow.yaml": (
        "a: 1\nb: [1,\nc: 2\n",
        ["flow.yaml:4:1: not valid YAML: did not find expected ',' or ']' while parsing a flow sequence "
         "that starts at 2:4"],
    ),
    "tab.yaml": (
        "a:\n\tb: 1\n",
        ["tab.yaml:2:1: not valid YAML: found character that cannot start any token while scanning for the "
         "next token that starts at 2:1; indent with spaces, not tabs"],
    ),
    "duplicate.yaml": (
        "a: 1\nb:\n  - {x: 1, y: 2, x: 3}\na: 2\n",
        ["duplicate.yaml:3:18: b[0].x: duplicate key; already given at 3:6, keep one of them",
         "duplicate.yaml:4:1: a: duplicate key; already given at 1:1, keep one of them"],
    ),
    "numbers.yaml": (
        "a: .nan\nb: -.inf\nc: 99999999999999999999999\nd: 1e999\ne:\n- 1\n- f: 9223372036854775809\n",
        ["numbers.yaml:1:4: a: expected a finite number, got .nan; give digits, or leave it out for the default",
         "numbers.yaml:2:4: b: expected a finite number, got -.inf; give digits, or leave it out for the default",
         "numbers.yaml:3:4: c: the number 99999999999999999999999 is too large; "
         "expected at most 2^63; put it in quotes if it is text",
         "numbers.yaml:4:4: d: the number 1e999 is too large; expected at most 1.8e308; put it in quotes if it is text",
         "numbers.yaml:7:6: e[1].f: the number 9223372036854775809 is too large; "
         "expected at most 2^63; put it in quotes if it is text"],
    ),
    "huge.yaml": (
        "a: " + "9" * 100_000,
        ["huge.yaml:1:4: a: the number 999999999999999999999999999999... (100000 characters) is too large; "
         "expected at most 2^63; put it in quotes if it is text"],
    ),
    "keys.yaml": (
        "1: a\n[x]: b\n",
        ["keys.yaml:1:1: a key must be text, got 1; put it in quotes",
         "keys.yaml:2:1: a key must be text, got something else; put it in quotes"],
    ),
    "bomb.yaml": (BOMB, ["bomb.yaml:5:5: expands to more than 100000 values; aliases of aliases multiply"]),
    "self.yaml": ("a: &a [*a]\n", ["self.yaml:1:8: the alias *a names no finished anchor above it"]),
    "merge.yaml": ("a: {<<: 3}\n", ["merge.yaml:1:9: <<: '<<' merges mappings only"]),
    "deep.yaml": ("[" * 500, ["deep.yaml:1:101: nested too deep; at most 100 levels"]),
    "deep-block.yaml": ("- " * 100_000, ["deep-block.yaml:1:201: nested too deep; at most 100 levels"]),
    "two.yaml": ("a: 1\n---\nb: 2\n", ["two.yaml:2:1: a second document starts here; expected one per file"]),
    "tag.yaml": (
        "a: !!python/object/apply:os.system [ls]\n",
        ["tag.yaml:1:4: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not supported; "
         "leave it out"],
    ),
    "binary.yaml": (b"\x7fELF\x02", ["binary.yaml:1:1: not a text file: holds the character '\\x7f'"]),
    "latin.yaml": ("a: caf\xe9".encode("latin-1"), ["latin.yaml: not UTF-8 text (byte 6); save it as UTF-8"]),
    "large.yaml": (b"a" * 8_000_001, ["large.yaml: larger than 8 MB; expected a short text file"]),
    "empty.json": ("  \n", ["empty.json: the file is empty"]),
    "truncated.json": (
        '{\n  "hidden_size": 4096,\n  "num_layers": [3, ',
        ["truncated.json:3:21: not valid JSON: the file ends in the middle of a value; it is truncated"],
    ),
    "truncated-text.json": (
        '{"model_type": "lla',
        ["truncated-text.json:1:16: not valid JSON: the file ends in the middle of a value; it is truncated"],
    ),
    "comma.json": ('{\n  "a": 1\n  "b": 2\n}', ["comma.json:3:3: not valid JSON: expecting ',' delimiter"]),
    "duplicate.json": (
        '{"a": 1,\n\t"b": {"c": 1, "c": 2}}',
        ["duplicate.json:2:16: b.c: duplicate key; already given at 2:8, keep one of them"],
    ),
    "huge.json": (
        '{"a": [1, ' + "9" * 100_000 + "]}",
        ["huge.json:1:11: a[1]: the number is too large; expected at most 2^63"],
    ),
    "deep.json": ("[" * 100_000, ["deep.json: nested too deep; at most 100 levels"]),
    "binary.json": (b"\x89PNG\r\n\x1a\n", ["binary.json: not UTF-8 text (byte 0); save it as UTF-8"]),
}  # fmt: skip


def test_nesting_that_libyaml_itself_refuses_is_told_the_same(tmp_path):
    """Some versions of libyaml stop at a thousand levels, and then point there."""
    (message,) = faults_of(write(tmp_path, "deeper.yaml", "[" * 100_000))
    assert re.fullmatch(r"deeper\.yaml:1:(101|1001): nested too deep; at most 100 levels", message)


@pytest.mark.parametrize("name", GALLERY)
def test_bad_files(tmp_path, name):
    content, messages = GALLERY[name]
    assert faults_of(write(tmp_path, name, content)) == messages


def test_a_folder_for_a_file(tmp_path):
    (tmp_path / "sweeps.yaml").mkdir()
    assert faults_of(str(tmp_path / "sweeps.yaml")) == ["sweeps.yaml: is a folder; expected a file"]


def test_a_missing_file_names_its_neighbour(tmp_path):
    write(tmp_path, "quickstart.yaml", "a: 1")
    message = "quikstart.yaml: no such file; did you mean 'quickstart.yaml'?"
    assert faults_of(str(tmp_path / "quikstart.yaml")) == [message]


def test_a_missing_folder_is_said():
    message = "a.yaml: no such file; the folder nowhere is not there either"
    assert faults_of("nowhere/a.yaml") == [message]


def test_an_impossible_path_is_a_fault():
    assert faults_of("a\0b.yaml") == ["a\0b.yaml: cannot be read: embedded null byte"]


def test_json_keeps_the_infinity_that_config_files_hold(tmp_path):
    """Mamba's `time_step_limit` is `[0.0, Infinity]` in published config.json files."""
    path = write(tmp_path, "config.json", '{"limit": [0.0, Infinity]}')
    assert read(path).value == {"limit": [0.0, float("inf")]}


# --- properties -------------------------------------------------------------------------------

NUMBERS = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
# PyYAML does not join the surrogate pairs in which JSON escapes characters beyond U+FFFF
TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
SCALARS = st.sampled_from(["no", "h100-sxm", "1024x256", "a b", "tp"]) | NUMBERS | st.booleans() | st.none()


@given(value=VALUES, suffix=st.sampled_from([".yaml", ".json"]))
def test_any_value_comes_back_as_written(tmp_path_factory, value, suffix):
    path = write(tmp_path_factory.getbasetemp(), f"value{suffix}", json.dumps(value))
    assert read(path).value == value


BLOCKS = st.lists(SCALARS) | st.dictionaries(st.sampled_from("xyz"), SCALARS)


@given(value=st.dictionaries(st.sampled_from("abcd"), BLOCKS))
def test_block_style_comes_back_as_written(tmp_path_factory, value):
    text = yaml.safe_dump(value, default_flow_style=False)
    assert read(write(tmp_path_factory.getbasetemp(), "block.yaml", text)).value == value


MARKS = [*"[]{}:,-&*!%@`#?<>|~'\"\\ \n\tab01.", "&a ", "*a", "<<: ", "- ", "? ", "\n  ", "!!map ", "---\n"]
FRAGMENTS = st.lists(st.sampled_from(MARKS), max_size=40)


@given(data=st.binary(max_size=200) | FRAGMENTS.map(lambda parts: "".join(parts).encode()),
       suffix=st.sampled_from([".yaml", ".json"]))  # fmt: skip
def test_reading_raises_nothing_but_input_error(tmp_path_factory, data, suffix):
    path = write(tmp_path_factory.getbasetemp(), f"noise{suffix}", data)
    try:
        document = read(path)
    except InputError:
        return
    assert document.fault(["a", 0, "b"], "any path has a place or none").file == path


# --- places -----------------------------------------------------------------------------------


def test_positions_of_values_keys_and_what_is_not_there(tmp_path):
    document = read(write(tmp_path, "a.yaml", "models:\n  - name: x\n    size: 3\nlist: [1, two]\n"))
    assert document.place(["models", 0, "size"]) == (3, 11)
    assert document.place(["models", 0, "size"], key=True) == (3, 5)
    assert document.place(["models", 0, "missing"]) == (2, 5)
    assert document.place(["list", 1, "deeper"]) == (4, 11)
    assert document.place([]) == (1, 1)


def test_positions_in_json_are_found_when_asked_for(tmp_path):
    document = read(write(tmp_path, "c.json", '{\n\t"a": {\n\t\t"b": 3}\n}'))
    assert document.place(["a", "b"]) == (3, 8)
    assert document.place(["a", "b"], key=True) == (3, 3)


def test_a_value_from_python_has_fields_but_no_place():
    assert from_value({"a": (1, 2)}).value == {"a": [1, 2]}
    assert from_value({"a": 1}).fault(["a"], "is bad") == Fault("is bad", "a")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1: 2}, "a key must be text, got 1"),
        ({"a": [float("nan")]}, "a[0]: expected a finite number, got nan"),
        ({"a": 2**70}, "a: the number is too large; expected at most 2^63"),
    ],
)
def test_values_from_python_obey_the_same_rules(value, message):
    with pytest.raises(InputError) as caught:
        from_value(value)
    assert str(caught.value) == message


def test_a_value_that_holds_itself_is_too_deep():
    loop: dict = {}
    loop["again"] = loop
    with pytest.raises(InputError, match="again: nested too deep"):
        from_value(loop)


def test_dotted_paths():
    assert dotted(["models", 0, "name"]) == "models[0].name"
    assert dotted(["a\nb"]) == r"a\nb"


def test_faults_from_below_get_the_place_of_the_entry(tmp_path):
    document = read(write(tmp_path, "s.yaml", "models: [good, bad]\n"))
    with pytest.raises(InputError) as caught, document.at(["models", 1]):
        raise InputError([Fault("is unknown"), Fault("is elsewhere", file="other.yaml")])
    assert str(caught.value) == f"{document.file}:1:16: models[1]: is unknown\nother.yaml: is elsewhere"


# --- build ------------------------------------------------------------------------------------


class Memory(Strict):
    bandwidth: float = Field(gt=0)
    size: float = Field(gt=0)


class Span(Strict):
    start: int
    stop: int = Field(ge=1)


class Machine(Strict):
    name: str
    flops: dict[Literal["bf16", "fp8"], float]
    memory: Memory
    scope: Literal["node", "rack"]
    batch: tuple[int, ...]
    share: float | tuple[float, ...] = 1.0
    span: Span | int | None = None
    on: bool = True
    memories: tuple[Memory, ...] = ()


GOOD = "name: x\nflops: {bf16: 1}\nmemory: {bandwidth: 2, size: 3}\nscope: node\nbatch: [1, 2]\n"


def build_faults(folder: Path, text: str) -> list[str]:
    document = read(write(folder, "m.yaml", text))
    with pytest.raises(InputError) as caught:
        build(Machine, document)
    return [str(fault).removeprefix(document.file) for fault in caught.value.faults]


def test_a_good_file_builds(tmp_path):
    machine = build(Machine, read(write(tmp_path, "m.yaml", GOOD + "span: 3\nshare: [0.5, 1]\n")))
    assert machine.batch == (1, 2)
    assert machine.memory == Memory(bandwidth=2, size=3)
    assert machine.share == (0.5, 1.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("on: 1", ":6:5: on: expected true or false, got 1"),
        ("on: yes", ":6:5: on: expected true or false, got 'yes'"),
        ("share: true", ":6:8: share: expected a number or a list, got true"),
        ("share: '1'", ":6:8: share: expected a number or a list, got '1'"),
        ("share: [1, x]", ":6:12: share[1]: expected a number, got 'x'"),
        ("span: 1.5", ":6:7: span: expected a mapping or a whole number, got 1.5"),
        ("span: {start: 1, stop: 0}", ":6:24: span.stop: must be >= 1, got 0"),
        ("span: {start: 1}", ":6:7: span: missing field 'stop'"),
        ("memories: [{bandwidth: 0, size: 1}]", ":6:24: memories[0].bandwidth: must be > 0, got 0"),
        ("memories: {}", ":6:11: memories: expected a list, got a mapping"),
        ("colour: red", ":6:1: colour: unknown field; expected one of batch, flops, memories, memory, name, "
                        "on, scope, share, span"),
    ],
)  # fmt: skip
def test_one_wrong_line(tmp_path, line, message):
    assert build_faults(tmp_path, f"{GOOD}{line}\n") == [message]


def test_all_faults_at_once_in_the_order_of_the_file(tmp_path):
    text = (
        "name: 3\nflops: {bf16: fast, fp9: 3}\nmemory:\n  bandwith: 3\n  size: -1\n"
        "scope: planet\nbatch: [1, two, 3.5]\n"
    )
    assert build_faults(tmp_path, text) == [
        ":1:7: name: expected text, got 3",
        ":2:15: flops.bf16: expected a number, got 'fast'",
        ":2:21: flops.fp9: 'fp9' is not one of bf16, fp8; did you mean 'fp8'?",
        ":4:3: memory.bandwith: unknown field; did you mean 'bandwidth'?",  # and not: missing 'bandwidth'
        ":5:9: memory.size: must be > 0, got -1",
        ":6:8: scope: 'planet' is not one of node, rack",
        ":7:12: batch[1]: expected a whole number, got 'two'",
        ":7:17: batch[2]: expected a whole number, got 3.5",
    ]


def test_a_file_that_is_no_mapping(tmp_path):
    assert build_faults(tmp_path, "- 1\n") == [":1:1: expected a mapping, got a list"]


def test_nan_from_python_is_refused():
    with pytest.raises(InputError, match="bandwidth: expected a finite number, got nan"):
        build(Memory, Document("", {"bandwidth": float("nan"), "size": 1.0}))


def test_a_part_is_built_with_its_place(tmp_path):
    text = "a:\n  - {bandwidth: 1, size: 2}\n  - {bandwidth: 0, size: 2}\n"
    document = read(write(tmp_path, "m.yaml", text))
    assert build(Memory, document, at=["a", 0]).size == 2
    with pytest.raises(InputError, match=r":3:17: a\[1\].bandwidth: must be > 0"):
        build(Memory, document, at=["a", 1])


def test_strict_words_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Memory(bandwidth=1, size=1).size = 2


def test_suggestions_ignore_case_and_separators():
    assert suggest("H100 SXM", ["h100-sxm", "h100-pcie"]) == "; did you mean 'h100-sxm'?"
    assert suggest("zzz", ["h100-sxm"]) == ""
