"""The settings of a distillation: what makes no sense is refused, and the rest means one thing."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives import (
    Distillation,
    HardLabels,
    HiddenMSE,
    LogitsKL,
    Progressive,
    Texts,
    VectorCosine,
)
from protege.objectives.distillation.losses.losses import TOP
from protege.objectives.distillation.tasks.language import LanguageTask
from protege.objectives.distillation.tasks.sentences import SentenceTask
from protege.search.session.identity import document
from protege.spaces import BadInput

SHARES = st.floats(0, 1)


def made(**settings: Any) -> Distillation:
    """A distillation with these settings."""
    return Distillation(Texts.of(["w1", "w2"]), **settings)


@pytest.mark.parametrize("decay", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 10, 200])
def test_the_rate_rises_to_its_peak_and_falls_towards_zero(
    steps: int, warmup: float, decay: float
) -> None:
    settings = made(steps=steps, warmup=warmup, decay=decay)
    paces = [settings.pace(step) for step in range(steps)]
    assert all(0 < pace <= 1 for pace in paces)
    assert max(paces) == 1
    peak = paces.index(1)
    assert paces[: peak + 1] == sorted(paces[: peak + 1])
    assert paces[peak:] == sorted(paces[peak:], reverse=True)


def test_between_its_rise_and_its_fall_the_rate_is_stable() -> None:
    settings = made(steps=200, warmup=0.1, decay=0.2)
    paces = [settings.pace(step) for step in range(200)]
    assert paces[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert set(paces[19:161]) == {1.0}
    assert paces[160:] == pytest.approx([(200 - step) / 40 for step in range(160, 200)])


@given(steps=st.integers(1, 60), longer=st.integers(1, 4))
def test_before_the_fall_a_rate_does_not_know_how_long_the_run_is(steps: int, longer: int) -> None:
    # the same steps of warm-up: what comes before the fall depends on no end
    short = made(steps=steps * 10, warmup=0.1, decay=0.2)
    long = made(steps=steps * 10 * longer, warmup=0.1 / longer, decay=0.2)
    stable = steps * 8
    paces = [[one.pace(step) for step in range(stable)] for one in (short, long)]
    assert paces[0] == pytest.approx(paces[1])


@given(steps=st.integers(0, 500), shares=st.lists(st.floats(0, 1, exclude_max=True), max_size=5))
def test_rungs_rise_and_end_where_the_run_does(steps: int, shares: list[float]) -> None:
    found = made(steps=steps, rungs=tuple(shares)).rung_steps
    assert found[-1] == steps
    assert all(one < other for one, other in pairwise(found))
    assert set(found) == {round(share * steps) for share in shares} | {steps}


def test_of_a_student_that_shrinks_no_rung_comes_before_it_has_its_size() -> None:
    shrinking = made(steps=90, progressive=Progressive(until=0.5))
    assert shrinking.rung_steps == [90]
    early = made(steps=90, progressive=Progressive(until=0.3))
    assert early.rung_steps == [30, 90]
    assert made(steps=90).rung_steps == [0, 10, 30, 90]


def test_without_losses_of_ones_own_the_tasks_are_minimised() -> None:
    assert made().terms(SentenceTask()) == SentenceTask().losses
    assert made().terms(LanguageTask()) == LanguageTask().losses
    mine = (LogitsKL(0.5), HardLabels(0.5))
    assert made(losses=mine).terms(LanguageTask()) == mine


def test_losses_that_look_inside_are_no_losses_on_answers() -> None:
    hidden, cosine = HiddenMSE(), VectorCosine()
    both = made(losses=(hidden, cosine))
    assert both.hidden_losses == [hidden]
    assert both.terms(SentenceTask()) == (cosine,)
    assert made().hidden_losses == []


def test_the_teachers_distribution_is_kept_as_the_loss_wants_it() -> None:
    soft = made(losses=(LogitsKL(temperature=2.0, top=16), HardLabels()))
    tuned = soft.tuned(LanguageTask())
    assert tuned == LanguageTask(temperature=2.0, top=16)
    assert tuned.name != LanguageTask().name
    assert made().tuned(LanguageTask()) == LanguageTask(temperature=1.0, top=TOP)
    assert soft.tuned(SentenceTask()) == SentenceTask()


def test_two_wishes_of_one_distribution_are_refused() -> None:
    two = made(losses=(LogitsKL(temperature=2.0), LogitsKL(temperature=1.0)))
    with pytest.raises(BadInput, match="expected one temperature and one number of tokens"):
        two.tuned(LanguageTask())


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": -1},
        {"steps": 1.5},
        {"batch_size": 0},
        {"max_tokens": 1},
        {"accumulate": 0},
        {"selection": 0},
        {"held_out": -1},
        {"checkpoint_every_s": -1.0},
        {"checkpoint_every_s": float("nan")},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"warmup": 1.1},
        {"warmup": -0.1},
        {"decay": 1.1},
        {"decay": float("nan")},
        {"layer_decay": 0.0},
        {"layer_decay": 1.5},
        {"layer_decay": float("nan")},
        {"answers": "sometimes"},
        {"precision": "fp8"},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(BadInput, match=rf"{name}={settings[name]!r}.*: expected "):
        made(**settings)


@pytest.mark.parametrize("rungs", [(1.0,), (-0.1,), (0.5, 2.0), (float("nan"),)])
def test_rungs_are_shares_of_the_steps(rungs: tuple[float, ...]) -> None:
    with pytest.raises(BadInput, match=r"rungs=.*: expected shares of the steps, from 0 to below"):
        made(rungs=rungs)


def test_layers_that_go_cannot_be_looked_into() -> None:
    with pytest.raises(BadInput, match="the matched layers are dropped during training; leave"):
        made(progressive=Progressive(), losses=(HiddenMSE(),))


def test_all_of_a_vocabulary_is_not_cached() -> None:
    with pytest.raises(BadInput, match="top=None: logits over the whole vocabulary are too large"):
        made(losses=(LogitsKL(top=None),))
    assert made(losses=(LogitsKL(top=None),), answers="online").answers == "online"


def test_how_often_a_training_is_stored_is_no_part_of_what_it_is() -> None:
    often = made(checkpoint_every_s=0)
    assert (often, repr(often)) == (made(), repr(made()))
    assert document(often) == document(made())
