"""A sweep of the library is found from any folder; the user's own file of that name wins."""

from __future__ import annotations

import pytest

from dse.errors import InputError
from dse.run.sweep import load_sweep

OWN = "name: own\nmodels: opt-125m\nhardware: l4\nworkload: 128x8\n"


@pytest.mark.parametrize("name", ["quickstart", "sweeps/quickstart.yaml", "quickstart.yaml"])
def test_library_sweeps_have_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_sweep(name).name == "quickstart"


def test_the_users_own_file_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "quickstart.yaml").write_text(OWN)
    assert load_sweep("sweeps/quickstart.yaml").name == "own"


def test_an_unknown_name_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_sweep("quickstrat")
