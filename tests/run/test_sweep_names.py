"""A sweep of the library is found from any folder; the user's own file of that name wins."""

from __future__ import annotations

import pytest

from dse.errors import InputError
from dse.run.folder import Run
from dse.run.library import check_file
from dse.run.plan import load_plan
from dse.run.sweep import load_sweep, run_sweep

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


UNKNOWN = {
    "quickstrat": "quickstrat: no such file, and no sweep of that name in the library; did you mean 'quickstart'?",
    "zzz": "zzz: no such file, and no sweep of that name in the library; see 'dse list sweeps'",
    "quickstrat.yaml": "quickstrat.yaml: no such file; did you mean 'quickstart.yaml'?",
    "sweeps/quickstrat.yaml": "sweeps/quickstrat.yaml: no such file; did you mean 'quickstart.yaml'?",
    "zzz.yaml": "zzz.yaml: no such file",
    "nowhere/a.yaml": "nowhere/a.yaml: no such file; the folder nowhere is not there either",
    "mine": "mine: no such file, and no sweep of that name in the library; did you mean 'mine.yaml'?",
    "chat-under-budget": "chat-under-budget: is a plan of the library; run it with 'dse plan chat-under-budget'",
}


@pytest.mark.parametrize(("name", "message"), UNKNOWN.items())
def test_an_unknown_name_says_what_may_be_meant(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(OWN)
    with pytest.raises(InputError) as caught:
        load_sweep(name)
    assert str(caught.value) == message


def test_a_plan_is_found_and_missed_by_name_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_plan("chat-under-budget").name == "chat-under-budget"
    with pytest.raises(InputError, match=r"no plan of that name in the library; did you mean 'chat-under-budget'\?"):
        load_plan("chat-under-budgt")
    with pytest.raises(InputError, match=r"quickstart: is a sweep of the library; run it with 'dse sweep quickstart'"):
        load_plan("quickstart")


def test_a_check_takes_the_names_of_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_file("quickstart").startswith("sweep 'quickstart'")
    assert check_file("chat-under-budget").startswith("plan 'chat-under-budget'")
    with pytest.raises(InputError, match=r"no sweep or plan of that name in the library; did you mean 'quickstart'\?"):
        check_file("quickstrat")


def test_a_run_that_is_not_there_may_be_one_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = run_sweep({"name": "quick", "models": "opt-125m", "hardware": "l4", "workload": "128x8"}).folder
    for missed in ("quick", f"results/{made.name[:-1]}", made.name):
        with pytest.raises(InputError, match=rf"there is no such folder; did you mean '{made}'\?"):
            Run.open(missed)
