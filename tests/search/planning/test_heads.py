"""The table of heads is what was measured, however the data are given."""

from pathlib import Path

import pytest
from torch.testing import assert_close

from protege.objectives.candidate import Prepared
from protege.search import Front, head_table
from protege.search.planning.calibrating import calibrate
from protege.search.planning.heads import measure_heads
from protege.search.planning.needs import Needs, cuts_heads
from protege.search.records.heads import HeadScores
from protege.spaces import (
    Activation,
    BadInput,
    Cache,
    Calibration,
    Choice,
    First,
    Magnitude,
    SearchSpace,
    Taylor,
    Wanda,
)
from protege.spaces.architecture.policies import HeadsBy
from tests.search.toys import NARROW, distillation, toy
from tests.tiny import CASES, ZOO, inputs_of, texts


@pytest.mark.parametrize("by", ["activation", "gradient", "ablation"])
def test_the_table_has_a_row_for_every_head(by: HeadsBy) -> None:
    teacher = CASES["llama-causal-grouped"].teacher()
    table = head_table(teacher, texts(), by)
    assert list(table.columns) == ["site", "layer", "head", "kv_group", "importance"]
    assert len(table) == 4 * 6
    assert table["kv_group"][:6].tolist() == [0, 0, 0, 1, 1, 1]
    assert (table["importance"] > 0).all()


def test_batches_give_what_the_calibration_knows() -> None:
    teacher = ZOO["t5-text2text-generation"].teacher()
    table = head_table(teacher, [inputs_of(teacher)], "gradient")
    known = Calibration.of(
        teacher, [inputs_of(teacher)], [Activation("gradient")], "none"
    ).importance
    sites = ["encoder.heads", "decoder.heads", "decoder.cross_heads"]
    assert table["site"].unique().tolist() == sites
    for site in sites:
        values = table.loc[table["site"] == site, "importance"].tolist()
        assert_close(values, known[f"{site}.gradient"].flatten().tolist())


def test_no_more_tokens_are_read_than_allowed() -> None:
    teacher = CASES["bert-masked"].teacher()
    told: list[str] = []
    measure_heads(teacher, texts(), "ablation", 1, told.append)
    assert told == ["ranking heads by ablation 100%"]
    few, more = (head_table(teacher, texts(), "gradient", n) for n in (20, 200))
    assert not few["importance"].equals(more["importance"])


def test_cross_attention_has_no_groups() -> None:
    scores = HeadScores("activation", 2, {"decoder.heads": [[1.0] * 4]})
    groups = [scores.group(site, 3, 4) for site in ("decoder.heads", "decoder.cross_heads")]
    assert groups == [1, 3]


def test_a_record_is_the_scores_to_five_digits() -> None:
    scores = HeadScores("gradient", 2, {"decoder.heads": [[1 / 3, 2e-9 / 3]]})
    assert scores.record()["sites"] == {"decoder.heads": [[0.33333, 6.6667e-10]]}
    assert HeadScores(**scores.record()).table["head"].tolist() == [0, 1]


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(BadInput, match="by='size': expected one of activation, gradient, ablation"):
        head_table(CASES["bert"].teacher(), texts(), "size")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="0 texts: expected at least two"):
        head_table(CASES["bert"].teacher(), [])
    with pytest.raises(BadInput, match=r"a teacher of images needs images; give Images"):
        head_table(ZOO["vit-image-classification"].teacher(), texts())
    with pytest.raises(BadInput, match=r"a teacher of speech needs recordings .*; give Speech"):
        head_table(ZOO["whisper-automatic-speech-recognition"].teacher(), texts())


def test_criteria_are_those_that_members_rank_heads_by() -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    policies = Choice(First(), Activation(), Activation("ablation"))
    space = SearchSpace(kv_heads=Choice(0.5, 1.0), width_policy=policies).of(teacher)
    assert Needs.of(space, teacher.architecture).heads_by == ["ablation", "activation"]
    assert cuts_heads(space, teacher)
    assert not cuts_heads(NARROW.of(teacher), teacher)


@pytest.mark.parametrize("by", ["gradient", "ablation"])
def test_a_study_that_cuts_heads_records_their_importance(folder: Path, by: HeadsBy) -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    space = SearchSpace(kv_heads=Choice(0.5, 1.0), width_policy=Activation(heads_by=by))
    search = toy(folder, teacher=teacher, space=space)
    search.run(trials=3)
    (scores,) = Front.read(folder).heads
    assert scores.by == by
    calibration = search.prepare().calibration
    assert calibration is not None
    known = calibration.units("heads", "decoder", by).flatten().tolist()
    assert scores.table["importance"].tolist() == pytest.approx(known, rel=1e-4)
    # one that goes on, and has nothing to calibrate any more, keeps what is recorded
    toy(folder, teacher=teacher, space=space).run(trials=3)
    assert Front.read(folder).heads == [scores]
    assert "Which layers and heads matter" in Front.read(folder).report().read_text(
        encoding="utf-8"
    )


def test_a_study_that_cuts_no_heads_records_none(front: Front) -> None:
    assert front.heads == []
    assert "Which attention heads matter" not in front.report().read_text(encoding="utf-8")


def test_a_calibration_of_a_space_has_what_its_members_ask_for(folder: Path) -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    policies = Choice(First(), Magnitude(), Wanda(), Taylor())
    space = SearchSpace(
        kv_heads=Choice(0.5, 1.0),
        hidden=Choice(0.5, 1.0),
        intermediate=Choice(0.5, 1.0),
        width_policy=policies,
        healing="sequential",
        multiple_of=4,
    ).of(teacher)
    needs = Needs.of(space, teacher.architecture)
    assert needs.heads_by == ["gradient", "wanda"]
    assert needs.criteria == ["activation", "gradient", "taylor", "wanda"]
    sequences = Prepared(teacher, Cache(folder), distillation()).data.learnt
    found = calibrate(teacher, sequences, needs, lambda _: None).tensors()
    assert {"hidden.taylor", "decoder.heads.gradient", "decoder.ffn.gram"} <= set(found)
