"""The Gaussian process proposes the best member that is left, whatever it is asked to find."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest

from protege.search import State
from protege.search.records.objectives import ObjectiveRecords
from protege.search.study.gaussian import MemberGP
from protege.search.study.sampler import distributions
from protege.search.study.study import StoredStudy
from protege.spaces import Architecture, Infeasible, Range, SearchSpace
from tests.search.toys import OBJECTIVES, SPACE, worth

DEEP = SearchSpace(
    layers=Range(0.1, 1.0), hidden=Range(0.25, 1.0, 1 / 12), intermediate=Range(0.25, 1.0, 1 / 12)
).of(Architecture("bert", 20, 384, 12, 12, 32, 1536, 30522))
"""Some 1,900 students."""


@pytest.mark.parametrize("looked_at", [8, 10_000])
def test_the_best_member_is_found_whether_or_not_all_are_looked_at(looked_at: int) -> None:
    points = np.array([[*member.sizes().values()] for member in DEEP], dtype=float)
    points /= points.max(axis=0)
    for objective in points[:: len(DEEP) // 6]:
        acquisition = SimpleNamespace(
            search_space=SimpleNamespace(get_normalized_params=lambda *_: points),
            eval_acqf_no_grad=partial(
                lambda objective, some: -np.abs(some - objective).sum(axis=1), objective
            ),
        )
        found = MemberGP(DEEP, 0, looked_at=looked_at)._optimize_acqf(acquisition, None)
        assert (found == objective).all()


def proposed(
    space: SearchSpace, told: Sequence[Any], excluded: Sequence[Architecture]
) -> Architecture:
    """What is proposed in a study of these trials."""
    optuna_study = optuna.create_study(directions=["minimize", "maximize"])
    study = StoredStudy.open(optuna_study, space, OBJECTIVES, seed=0)
    for make in told:
        number, architecture = study.ask()
        study.tell(make(number, architecture))
    trial = optuna_study._storage.get_trial(optuna_study.ask()._trial_id)
    return MemberGP(space, 0).propose(optuna_study, trial, distributions(space), excluded)


def test_before_the_anchors_are_done_it_is_what_is_farthest() -> None:
    excluded = SPACE.anchors[:2]
    assert proposed(SPACE, [worth], excluded) == SPACE.farthest(excluded)
    with pytest.raises(Infeasible, match="members of the space have been tried"):
        proposed(SPACE, [worth], SPACE.members)


def test_one_member_left_is_what_is_proposed() -> None:
    told = [worth] * len(SPACE.anchors)
    for last in SPACE.members[-3:]:
        assert proposed(SPACE, told, [one for one in SPACE if one != last]) == last


def limited(size: float | None) -> ObjectiveRecords:
    """The objectives with a limit on the size."""
    return ObjectiveRecords((replace(OBJECTIVES.records[0], limit=size), OBJECTIVES.records[1]))


def screened(number: int, architecture: Architecture) -> Any:
    """A trial of which only the size was measured."""
    found = worth(number, architecture)
    known = {"size": found.measurements["size"]}
    return replace(found, state=State.SCREENED, measurements=known)


@pytest.mark.parametrize("limit", [1.0, pytest.param(None, marks=pytest.mark.slow)])
def test_what_is_as_large_as_a_screened_student_waits_while_that_is_over_the_limit(
    limit: float | None,
) -> None:
    told = [worth] * len(SPACE.anchors) + [screened]
    optuna_study = optuna.create_study(directions=["minimize", "maximize"])
    study = StoredStudy.open(optuna_study, SPACE, limited(1.0), seed=0)
    asked_for = []
    for make in told:
        number, architecture = study.ask()
        asked_for.append(architecture)
        study.tell(make(number, architecture))
    over = asked_for[-1].sizes()

    def is_as_large(member: Architecture) -> bool:
        return all(size >= over[name] for name, size in member.sizes().items())

    left = [is_as_large(m) for m in SPACE if m not in asked_for]
    assert any(left)
    assert not all(left)
    study, order = StoredStudy.open(optuna_study, SPACE, limited(limit), seed=0), []
    while not study.exhausted:
        number, architecture = study.ask()
        order.append(is_as_large(architecture))
        study.tell(worth(number, architecture))
    assert (order == sorted(order)) == (limit is not None)
