"""The HTML report of a run and of a single point: one file each, opened from disk without a network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.errors import CannotRun
from dse.plain import json_bytes
from dse.report.charts import report_data

if TYPE_CHECKING:
    import pyarrow as pa
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
_PLOTLY = "<!--plotly-->"


def write_report(run_dir: Path, details: Mapping[int, dict[str, Any]] | None = None) -> Path:
    """Write `report.html` into a run's folder from its manifest and frontier; it appears whole or not at all.

    Args:
        run_dir: The run's folder, holding `manifest.json` and `frontier.parquet`.
        details: The explanation of points by point number (the format of `dse explain --json`).

    Returns:
        The path of the report.

    Raises:
        CannotRun: The folder is not that of a finished run, or plotly's script is not installed.
    """
    manifest, frontier = _read_run(Path(run_dir))
    data = report_data(manifest, frontier, details or {})
    detail = data.pop("details")
    name = manifest.get("name") or "sweep"
    page = render_page("report.html", name=name, title=f"{name}: Pareto frontiers", data=data, details=detail)
    return write_page(Path(run_dir) / "report.html", page)


def write_explain(explain: Mapping[str, Any], path: Path) -> Path:
    """Write the explanation of one point (layer graph, roofline, operators, time, memory) as one HTML file.

    Args:
        explain: What `dse explain --json` prints.
        path: The file to write; it appears whole or not at all.

    Raises:
        CannotRun: plotly's script is not installed.
    """
    point = explain.get("point") or {}
    name = f"{point.get('model', 'model')} on {point.get('hardware', 'hardware')}"
    number = str(point.get("number", 0))
    page = render_page("explain.html", name=name, title=name, data={"point": number}, details={number: explain})
    return write_page(Path(path), page)


def script_json(value: Any) -> str:
    """JSON that is safe inside a script element: no `<`, `>` or `&`, and no line separator of Unicode's own."""
    text = json_bytes(value).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _json_pieces(data: Mapping[str, Any]) -> Iterator[str]:
    """`script_json` of a mapping, a piece for each item of its lists: whole, the columns would be there four times."""
    before = "{"
    for key, value in data.items():
        yield f"{before}{script_json(key)}:"
        if isinstance(value, list):
            yield "["
            yield from (f"{',' if place else ''}{script_json(item)}" for place, item in enumerate(value))
            yield "]"
        else:
            yield script_json(value)
        before = ","
    yield "}"


class _Frontier(Mapping[str, list[Any]]):
    """The frontier's columns, the last few read as lists: all of them would be the most a run ever holds."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._read = lru_cache(maxsize=4)(self._list)

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._table.column_names:
            raise KeyError(name)
        return self._read(name)

    def _list(self, name: str) -> list[Any]:
        values: list[Any] = self._table[name].to_pylist()
        return _shared(values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.column_names)

    def __len__(self) -> int:
        return len(self._table.column_names)


def _read_run(run_dir: Path) -> tuple[dict[str, Any], Mapping[str, list[Any]]]:
    import pyarrow.parquet as pq

    try:
        manifest = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))
        with pq.ParquetFile(run_dir / "frontier.parquet") as file:  # `read_table` imports pandas
            table = file.read(use_threads=False)
    except (OSError, ValueError) as error:  # a JSON or Arrow fault is a ValueError
        raise CannotRun(f"{run_dir} is not the folder of a finished run: {error}") from error
    return manifest, _Frontier(table)


def _shared(values: list[Any]) -> list[Any]:
    """The values with equal texts as one object: most columns of text hold a few words, thousands of times."""
    known: dict[str, str] = {}
    return [known.setdefault(value, value) if isinstance(value, str) else value for value in values]


def render_page(template: str, *, data: Mapping[str, Any], details: Mapping[str, Any], **words: Any) -> Iterator[bytes]:
    """The page in pieces, made as they are written: whole it would be a good part of a run's memory."""
    from markupsafe import Markup

    page = _environment().get_template(template)
    pieces = page.generate(
        plotly=Markup(_PLOTLY),
        data=map(Markup, _json_pieces(data)),
        # Each point's detail is a script element of its own, so that the page parses only the chosen one's.
        details=((number, Markup(script_json(detail))) for number, detail in details.items()),
        **words,
    )
    for piece in pieces:
        # Plotly's 5 MB go in as they are: to decode and encode them is a tenth of a small sweep. No text of the user
        # can hold the mark, its `<` being escaped.
        before, mark, after = piece.partition(_PLOTLY)
        yield before.encode("utf-8", errors="replace")
        if mark:
            yield from _plotly_script()
            yield after.encode("utf-8", errors="replace")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    # Styles and scripts are read as they are: braces mean something else in them.
    environment.globals["asset"] = lambda name: Markup((_TEMPLATES / name).read_text(encoding="utf-8"))
    return environment


def _plotly_script() -> Iterator[bytes]:
    """The browser script that ships inside the plotly package, without importing plotly (300 ms)."""
    package = find_spec("plotly")
    for folder in (package.submodule_search_locations or ()) if package else ():
        script = Path(folder) / "package_data" / "plotly.min.js"
        if script.is_file():
            with script.open("rb") as file:
                yield from iter(partial(file.read, 2**16), b"")
            return
    raise CannotRun("the report needs plotly.min.js of the Python package plotly: pip install plotly")


def write_page(path: Path, page: Iterable[bytes]) -> Path:
    """Write a page beside the target, then rename: a reader never sees half a report."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.writelines(page)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
