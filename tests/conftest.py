"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Machines that run tests are shared and slow at times: how long an example took says nothing about it.
settings.register_profile("dse", deadline=None)
settings.load_profile("dse")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of facts and measurements that lies beside the project, or a skip with the reason."""
    folder = Path(os.environ.get("DSE_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"measurements are not here: {folder} is absent (set DSE_SHARED to the folder that holds data/)")
    return folder
