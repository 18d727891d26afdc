"""aiconfigurator 0.12, with 24.5 million kernel timings, on rows it predicts: better than it, without their model."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from dse.calibrate.engines import by_model, left_out
from dse.calibrate.measured import read_measured
from dse.calibrate.validate import fits, predict


@cache
def ratios(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Predicted over measured of both, per metric, on the rows that both predict."""
    import pyarrow.parquet as pq

    peer = {}
    for line in pq.read_table(folder / "kernels" / "peer_predictions.parquet").to_pylist():
        for metric in ("ttft_ms", "tpot_ms"):
            if line["in_measured_dev"] and line[f"aic_predicted_{metric}"]:
                key = line["hardware"], line["model"], metric, f"{line[f'silicon_{metric}']:.6g}"
                peer[key] = line[f"aic_predicted_{metric}"]
    _, rows = read_measured(folder / "measured" / "dev.csv")
    rows = [row for row in rows if row.text("scenario") == "online_closed_loop"]
    cases, _ = predict(rows, "calibrated")
    held = left_out(fits(rows, cases, "calibrated"), by_model)
    found: dict[str, dict[str, list[float]]] = {}
    for place, row in enumerate(rows):
        key = row.text("hardware"), row.text("model"), row.text("metric"), f"{row.value:.6g}"
        if key in peer:
            both = found.setdefault(row.text("metric"), {"peer": [], "own": []})
            both["peer"].append(peer[key] / row.value)
            both["own"].append(held[place] / row.value)
    return {metric: {who: np.array(values) for who, values in both.items()} for metric, both in found.items()}


@pytest.mark.parametrize("metric", ["tpot_ms", "ttft_ms"])
def test_models_left_out_are_met_better_than_by_the_peer(shared_data, metric):
    both = ratios(shared_data)[metric]
    own, peer = (100 * float(np.median(np.abs(both[who] - 1))) for who in ("own", "peer"))
    print(f"{metric}: {len(both['own'])} rows, median error {own:.1f} %, the peer's {peer:.1f} %")
    assert len(both["own"]) >= 700
    assert own < peer
