"""A candidate is told from its student, and what all candidates share travels to any process."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import torch

from protege.objectives import Candidate, Distillation, Retention, Stopwatch, Texts
from protege.objectives.candidate import Prepared
from protege.objectives.machine.pickling import read_pickle, write_pickle
from protege.search.planning.calibrating import with_calibration
from protege.spaces import BadInput, Cache, ProtegeError
from tests import pieces
from tests.objectives.candidates import candidate, half, itself
from tests.objectives.quality.scripted import state
from tests.search.toys import NARROW, distillation
from tests.tiny import CASES, texts

TEACHER = CASES["bert-sentences"].teacher()


def test_before_it_is_built_there_is_no_student(cache: Cache) -> None:
    given = half(TEACHER, cache)
    with pytest.raises(ProtegeError, match=r"the student is not built yet; .*stage=Stage\.STUDENT"):
        _ = given.student
    built = given.built()
    assert built.student.architecture.sizes() == given.architecture.sizes()
    # the candidate that was given is as it was
    assert given.made is None
    with pytest.raises(FrozenInstanceError):
        given.made = built.student  # type: ignore[misc]


def test_a_student_is_built_alike_each_time_and_apart(cache: Cache) -> None:
    given = half(TEACHER, cache)
    one, other = given.built(), given.built()
    first, second = state(one), state(other)
    assert all(torch.equal(first[name], second[name]) for name in first)
    with torch.no_grad():
        for parameter in one.student.module.parameters():
            parameter.zero_()
    assert all(torch.equal(second[name], found) for name, found in state(other).items())


def test_a_candidate_says_whether_it_is_the_teacher(cache: Cache) -> None:
    assert itself(TEACHER, cache).is_teacher
    assert not half(TEACHER, cache).is_teacher


def test_a_student_of_fewer_tokens_has_a_map_of_them(cache: Cache) -> None:
    given = candidate(pieces.teacher("bert-sentences"), cache, vocab=0.6)
    assert given.vocabulary_map is None
    built = given.built()
    assert built.vocabulary_map is not None
    assert given.stopwatch.seconds["map vocabulary"] > 0
    # training changes weights and no tokens
    assert built.trained(built.student.copy()).vocabulary_map is built.vocabulary_map
    assert built.holding(half(TEACHER, cache).built().student).vocabulary_map is None


def test_a_batch_has_at_least_the_parts_that_fit_into_memory(cache: Cache) -> None:
    given = Distillation(Texts.of(texts()), accumulate=2)
    prepared = Prepared(TEACHER, cache, given)
    for parts, expected in ((1, 2), (4, 4)):
        assert replace(prepared, batch_parts=parts).settings == replace(given, accumulate=expected)
    assert prepared.distillation is given


def test_without_a_distillation_there_is_no_data(cache: Cache) -> None:
    message = r"students are not distilled; give distillation=Distillation\(data\)"
    with pytest.raises(BadInput, match=message):
        _ = Prepared(TEACHER, cache).data
    with pytest.raises(BadInput, match=message):
        Retention().measure(half(TEACHER, cache).built())


def test_data_is_split_and_tokenised_once(cache: Cache) -> None:
    prepared = Prepared(TEACHER, cache, distillation())
    assert prepared.data is prepared.data
    assert prepared.data.learnt is prepared.data.learnt
    # the same texts read anew, by whoever asks
    assert prepared.data_of(Texts.of(texts())) is prepared.data
    assert prepared.data_of(Texts.of(texts(50))) is not prepared.data


def test_what_is_shared_travels_without_what_the_cache_has(cache: Cache, tmp_path: Path) -> None:
    given = Prepared(
        TEACHER, cache, distillation(), seed=3, batch_parts=2, stopwatch=Stopwatch(announce=print)
    )
    space = NARROW.of(TEACHER)
    full = with_calibration(given, space)
    assert full.calibration is not None
    assert full.data.selected.rows > 0
    write_pickle(full, tmp_path / "shared.pt", "the study", "try again")
    found: Prepared = read_pickle(tmp_path / "shared.pt")
    assert found.calibration is None
    assert found.read == {}
    assert found.stopwatch.seconds == {}
    assert found.teacher.fingerprint == TEACHER.fingerprint
    assert found.distillation == given.distillation
    assert (found.seed, found.batch_parts) == (3, 2)
    assert found.cache.folder == cache.folder
    # nothing is measured again: the calibration comes back from the cache
    passes: list[object] = []
    found.teacher.model.base_model.register_forward_hook(lambda *_: passes.append(_))
    again = with_calibration(found, space)
    assert passes == []
    assert again.calibration is not None
    mine, theirs = again.calibration.tensors(), full.calibration.tensors()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    own = next(one for one in space if one.looks_at_data)
    mine, theirs = (state(Candidate(one, own).built()) for one in (again, full))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_the_time_of_a_candidate_is_its_own(cache: Cache) -> None:
    shared = Prepared(TEACHER, cache, distillation())
    _ = shared.data.selected
    own = replace(shared, stopwatch=Stopwatch())
    Retention().measure(Candidate(own, TEACHER.architecture).built())
    assert {"caching teacher outputs", "evaluate"} <= own.stopwatch.seconds.keys()
    assert shared.stopwatch.seconds == {}
