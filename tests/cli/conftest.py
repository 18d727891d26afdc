"""The command line, in process: what it prints, and its exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from dse.cli import run


class Said(NamedTuple):
    """What a command left on the terminal."""

    code: int
    out: str
    err: str


@pytest.fixture
def dse(capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch) -> Callable[..., Said]:
    """Run `dse ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> Said:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return command
