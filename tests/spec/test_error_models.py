"""The error bands of evidence classes: the file, and what stands in for what was not measured."""

from __future__ import annotations

import pytest

from dse.errors import InputError
from dse.spec import bands
from dse.spec.bands import CLASSES, error_models

SHARES = "{model: 0.2, chip: 0.3, scheme: 0.1, engine: 0.2, layout: 0.2, octave: 0.03}"


def band(error: int) -> str:
    return f"{{error_pct: {error}, rows: 9, sources: {{mine: {error}}}}}"


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Error models of a file with these classes."""

    def load(classes: str):
        path = tmp_path / "error_bands.yaml"
        path.write_text(f"source: here\ncost_model: 2\nclasses:\n{classes}")
        monkeypatch.setattr(bands, "library_file", lambda name: path)
        return error_models.__wrapped__()

    return load


WEAKEST = f"  ideal: {{ttft: {band(66)}, tpot: {band(55)}, throughput: {band(150)}, shares: {SHARES}}}\n"


def test_every_evidence_class_has_bands_and_shares():
    for model in (error_models()[name] for name in CLASSES):
        assert all(0 < band <= 200 for band in model.bands)
        assert all(0 <= share <= 1 for share in model.shares.model_dump().values())


def test_the_roofline_has_the_widest_band_of_throughput_and_fitted_kernels_the_narrowest():
    """Between them the order is not given: `transferred` was measured on old engines alone."""
    found = {name: error_models()[name].bands[2] for name in CLASSES}
    assert found["ideal"] == max(found.values())
    assert found["calibrated"] == min(found.values())


def test_what_was_not_measured_of_a_class_is_that_of_the_next_weaker(stored):
    found = stored(WEAKEST + f"  transferred: {{tpot: {band(20)}}}\n")
    assert [found[name].bands for name in CLASSES] == [(66, 55, 150), (66, 55, 150), (66, 20, 150), (66, 20, 150)]
    assert found["calibrated"].shares == found["ideal"].shares


def test_a_file_without_the_weakest_class_or_with_a_word_too_much_is_refused(stored):
    with pytest.raises(InputError, match=r"error_bands\.yaml:4:3: classes: no figures of the class ideal"):
        stored(f"  datasheet: {{tpot: {band(20)}}}\n")
    with pytest.raises(InputError, match=r"error_bands\.yaml:4:\d+: classes\.perfect"):
        stored(WEAKEST.replace("ideal", "perfect"))
