"""The shape of the code: imports point one way, arithmetic does no input or output, heavy libraries come late."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dse"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "library" not in path.relative_to(PACKAGE).parts[:-1])

ORDER = ("errors", "plain", "spec", "cost", "search", "simulate", "report", "run", "calibrate", "cli")
"""Each room may import those before it; a room imports itself freely. A run writes its report: `run` is above it."""

HEAVY = {"pandas", "ray", "pyarrow", "plotly", "moocore", "jinja2", "rich", "pulp", "simpy", "torch"}
"""Imported inside the functions that use them, so that `dse --help` and a small sweep answer at once."""

ARITHMETIC = {"numpy", "scipy", "dse.cost", "dse.spec", "dse.errors"}
"""What `dse.cost` may use, beside the standard library."""

IMPURE = {
    "asyncio", "glob", "http", "importlib", "io", "logging", "multiprocessing", "os", "pathlib", "pickle", "random",
    "secrets", "shutil", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "urllib", "uuid", "yaml",
}  # fmt: skip
"""Parts of the standard library (and yaml) that reach outside: files, clocks, logs, processes, chance."""

LONGEST = 400
"""Lines of a file that still has one subject."""

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imported(node: ast.AST, *, deep: bool = True) -> Iterator[str]:
    """Modules a tree imports when it runs: with `deep` also inside functions, not for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield child.module or ""
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif not (_typing_only(child) or (not deep and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))):
            yield from imported(child, deep=deep)


def room(module: str) -> str | None:
    """The room of a module of ours: `dse.cost.memory` is in `cost`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "dse" and len(parts) > 1 and parts[1] in ORDER else None


@each_file
def test_imports_point_one_way(path: Path):
    mine = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if mine in ("__init__", "__main__"):  # the public names, imported when first used; the command line
        return
    assert mine in ORDER, f"{mine} is no known room; say where it stands in ORDER"
    allowed = ORDER[: ORDER.index(mine) + 1]
    wrong = {module for module in imported(tree(path)) if (target := room(module)) and target not in allowed}
    assert not wrong, f"{mine} must not know of {sorted(wrong)}"


@pytest.mark.parametrize(
    "path", [path for path in FILES if "cost" in path.relative_to(PACKAGE).parts], ids=lambda p: p.name
)
def test_the_cost_model_is_arithmetic(path: Path):
    """Arrays in, arrays out: no files, clocks, logs, processes or chance."""
    for module in imported(tree(path)):
        top = module.split(".")[0]
        assert top not in IMPURE, module
        known = any(module == name or module.startswith(f"{name}.") for name in ARITHMETIC)
        assert known or top in sys.stdlib_module_names or module == "dse", module
        assert not module.startswith("numpy.random"), module
    calls = {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}
    assert not calls & {"open", "print", "input", "eval", "exec", "np.load", "np.save", "np.fromfile", "np.loadtxt"}


@each_file
def test_heavy_libraries_are_imported_where_they_are_used(path: Path):
    at_once = {module.split(".")[0] for module in imported(tree(path), deep=False)}
    assert not at_once & HEAVY


@each_file
def test_a_file_has_one_subject(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@each_file
def test_nothing_is_left_for_later(path: Path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", text)


def test_starting_loads_nothing_heavy():
    """`dse --help` answers at once."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import dse.cli"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in run.stderr.splitlines()}
    assert "dse" in loaded
    assert not loaded & (HEAVY | {"numpy", "scipy"})


def test_queues_and_placements_are_for_those_who_ask():
    """A sweep without arrivals and offloading starts without them: a tenth of a small one's time."""
    code = "import sys, dse.cost.modes, dse.run.score, dse.run.deployment; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "dse.cost.open_loop" in run.stdout.split()
    later = {"batching", "queueing", "servers", "waiting", "places", "latency", "simplex"}
    assert not {f"dse.cost.{name}" for name in later} & set(run.stdout.split())


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout, so what is committed is not known")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_path_of_a_machine_is_committed():
    """What is committed works on any machine: no home folders, no absolute paths of ours."""
    machine = re.compile(r"(?<![\w.:/-])/(?:home|root|Users|work|tmp|mnt|opt/venv)/[\w.-]+")
    found = []
    for path in _tracked():
        if path.suffix in {".parquet", ".png", ".gz", ".enc"} or not path.is_file() or path == Path(__file__).resolve():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in machine.finditer(text)]
    assert not found
