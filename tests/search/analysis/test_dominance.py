"""Where a baseline beats the front, the table and the sentences say so."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from protege.objectives import Measurement
from protege.search import Front
from protege.search.records.baseline import BaselineRecord
from tests.search.report.drawn import ABOUT, classic


def other(name: str, latency_ms: float | None, retention: float, **changes: Any) -> dict[str, Any]:
    """The record of a baseline whose errors are a hundredth of its values."""
    values = {"latency_ms": latency_ms, "retention": retention}
    found = {n: Measurement(v, abs(v) / 100) for n, v in values.items() if v is not None}
    sizes = {"num_hidden_layers": 3, "hidden_size": 16, "layer_policy": "ends"}
    return BaselineRecord(name, f"org/{name}", name, sizes, found, **changes).record()


def beside(*records: dict[str, Any], limit_ms: float | None = None) -> Front:
    """Students 2 (20 ms, 0.8), 3 (30 ms, 0.9) and 4 (8 ms, 0.5), beside baselines."""
    return classic(limit_ms=limit_ms, about=ABOUT | {"baselines": list(records)})


FASTER = other("L3", 19.0, 0.91)
"""Better than 2 and 3, slower than 4."""


def test_a_baseline_dominates_what_is_worse_by_more_than_noise() -> None:
    front = beside(FASTER, other("slow", 35.0, 0.85), other("even", 8.01, 0.499))
    assert front.outdone == {"L3": [2, 3], "slow": [], "even": []}


def test_baselines_are_no_students() -> None:
    front, alone = beside(FASTER), classic()
    assert [one.number for one in front.members] == [one.number for one in alone.members]
    assert front.dominated == alone.dominated
    assert front.pick(latency_ms=25).trial.number == 2
    assert front.hypervolume == alone.hypervolume


def test_beyond_a_limit_or_without_a_measurement_it_dominates_none() -> None:
    lacking = other("lacking", None, 0.99, reasons={"latency_ms": "Unmeasured: too slow"})
    front = beside(other("late", 26.0, 0.99), lacking, limit_ms=25.0)
    assert front.outdone == {"late": [], "lacking": []}
    late, without = front.baseline_notes
    assert late == (
        "late dominates none of 2 students of the front. It is beyond the limit on latency_ms."
    )
    assert without == (
        "lacking dominates none of 2 students of the front. "
        "Its latency_ms could not be measured: Unmeasured: too slow."
    )


def test_what_is_dominated_is_said_and_in_the_table() -> None:
    front = beside(FASTER)
    assert front.baseline_notes == ["L3 dominates 2 of 3 students of the front (t2 t3)."]
    table = front.table
    assert table["trial"].tolist() == [4, 2, 3, 0, pd.NA]
    row = table.iloc[-1]
    assert (row["student"], row["role"], row["dominates"]) == ("L3", "baseline", "t2 t3")
    assert (row["latency_ms"], row["num_hidden_layers"]) == (19.0, 3)
    assert not row["on_front"]
    assert table["dominated_by_baselines"].tolist()[:4] == ["", "L3", "L3", ""]


def test_the_csv_has_the_baselines(tmp_path: Path) -> None:
    lines = beside(FASTER).save(tmp_path).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 4 + 1
    assert lines[1].startswith("4,")
    assert lines[-1].startswith(",L3,19.0,")


def test_without_baselines_the_table_is_as_it_was() -> None:
    assert "dominates" not in classic().table
    assert classic().baseline_notes == []


def test_the_terminal_names_them_below_the_front() -> None:
    lines = str(beside(FASTER, other("lacking", None, 0.99))).splitlines()
    assert "L3 (baseline) 19 ± 0.19 0.91 ± 0.0091" in " ".join(lines[-2].split())
    assert "lacking (baseline) - 0.99" in " ".join(lines[-1].split())


@pytest.mark.parametrize("secret", ["postgresql://me:secret@host/db"])
def test_reasons_hold_no_password(secret: str) -> None:
    assert "secret" not in str(other("one", 1.0, 1.0, reasons={"latency_ms": secret}))
