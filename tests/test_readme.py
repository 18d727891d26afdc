"""README.md keeps its promises: its commands are those CI runs, and what it names exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_ci_runs_the_readme_s_test_command():
    _, command = re.findall(r"```sh\n(.*?)\n```", README)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


NAMED = re.findall(r"(?:dse|configs|hardware|tests|sweeps|docs)/[\w./-]*\w", README)


@pytest.mark.parametrize("path", sorted(set(NAMED)))
def test_every_path_it_names_exists(path):
    assert (ROOT / path).exists() or (ROOT / f"{path}/").exists()


def test_its_sweep_is_one(tmp_path, monkeypatch):
    from dse.run.sweep import load_sweep

    block, offloading = re.findall(r"```yaml\n(.*?)\n```", README, re.DOTALL)
    fields = yaml.safe_load(block)
    fields["models"] = fields["models"][:1]  # the second is the reader's own
    assert load_sweep(fields).name == "llama70b-capacity"
    offloaded = load_sweep({**fields, "models": ["llama-3.1-70b"], "current": None, "price": {"kind": "on-demand"},
                            **yaml.safe_load(offloading)})  # fmt: skip
    assert offloaded.axes.offload == ("none", "lp")


def test_every_dependency_is_accounted_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.match(r"[\w-]+", line)[0] for line in project["dependencies"]]
    assert [name for name in names if name not in README] == []
