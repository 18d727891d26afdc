"""Speculative decoding as the user says it: names, fields, and what is wrong with them."""

from __future__ import annotations

import pytest

import dse
from dse.errors import InputError
from dse.spec.speculation import Speculation, load_speculation, speculation_names


def test_every_name_of_the_library_is_a_speculation():
    for name in speculation_names():
        found = load_speculation(name)
        assert isinstance(found, Speculation)
        assert str(found) == name
        assert all(1 < tau <= found.width for _, tau in found.tau)


def test_spellings_of_a_name_mean_the_same():
    assert load_speculation("Eagle 2") == load_speculation("eagle-2")


def test_a_base_keeps_its_shape_and_takes_what_is_said():
    found = load_speculation({"base": "eagle-2", "tau": 4})
    assert (found.kind, found.passes, found.width, found.tau) == ("eagle", 6, 60, (("*", 4),))
    assert str(found) == "eagle 6 tree 60 tau 4"


def test_tau_may_be_told_by_model():
    found = load_speculation({"tree": 60, "eagle": 6, "tau": {"Qwen/Qwen3-32B": 3.1, "llama-3.1-8b": 3.4}})
    assert found.gained(dse.load_model("qwen3-32b")) == 3.1


DRAFT = {"draft": "llama-3.2-1b", "gamma": 4}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("egle-2", "speculation: unknown speculation 'egle-2'; did you mean 'eagle-2'?"),
        (3, "speculation: expected none, a name in configs/speculation.yaml"),
        ({"gama": 4, "mtp": 1}, "speculation.gama: unknown field; did you mean 'gamma'?"),
        (DRAFT | {"draft": "llama-9-1b", "acceptance": 0.8}, "speculation.draft: unknown model 'llama-9-1b'"),
        (DRAFT | {"acceptance": 1.2}, "speculation.acceptance: must be <= 1, got 1.2"),
        (DRAFT, "'draft' needs one of 'acceptance', 'accepted' and 'tau'"),
        ({"draft": "llama-3.2-1b", "acceptance": 0.8}, "'draft' needs 'gamma' (tokens it drafts)"),
        (DRAFT | {"acceptance": [0.8, 0.7]}, "acceptance lists 2 positions, but 4 tokens are drafted"),
        ({"mtp": 1, "accepted": 1.5}, "accepted is at most 1, the tokens drafted, got 1.5"),
        ({"tree": 8, "tau": 2, "trained": True}, "'trained' says that you have trained the next-token module of 'mtp'"),
        ({"mtp": 1}, "'mtp' needs one of 'acceptance', 'accepted' and 'tau'"),
        ({"tree": 8, "tau": 9}, "tau is at most 8, the tokens verified, got 9"),
        ({"tree": 8, "tau": 0.5}, "speculation.tau: must be >= 1, got 0.5"),
        ({"tree": 8, "acceptance": 0.8}, "'tree' needs 'tau' (tokens gained per iteration)"),
        ({"tree": 8, "eagle": 2, "medusa": 2, "tau": 2}, "expected either 'eagle' or 'medusa'"),
        ({"eagle": 2, "tau": 2}, "expected one of 'draft' (a model), 'mtp' (its tokens) and 'tree' (tokens verified)"),
        ({"mtp": 1, "tree": 8, "tau": 2}, "expected one of 'draft' (a model), 'mtp' (its tokens) and 'tree'"),
        ({"mtp": 1, "gamma": 2, "accepted": 0.8}, "'gamma' is how many tokens a 'draft' model drafts"),
        ({"base": "eagle-9", "tau": 2}, "unknown speculation 'eagle-9'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(entry, message):
    with pytest.raises(InputError) as error:
        dse.evaluate("llama-3.1-8b", "h100-sxm", speculation=entry)
    assert message in str(error.value)
