"""The teacher's answers: asked once, kept row by row, and never taken for those to other inputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from torch import nn

from protege.objectives import Distillation, LogitsKL
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.sequences import Sequences
from protege.objectives.distillation.losses.losses import Targets
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.teacher_outputs import (
    ASKED,
    BLOCK,
    CachedOutputs,
    LiveOutputs,
    cached_outputs,
    compute_outputs,
    judge,
)
from protege.spaces import Cache, Mismatch, Teacher
from protege.spaces.files.block_file import RECORD
from tests.objectives.distillation.taught import SHORT, asked, material, module_of, taught
from tests.tiny import CASES, texts

EXACT = replace(SHORT, precision="float32")
LANGUAGE = ["bert-masked", "llama-causal-tied"]
KEY = {"teacher": "tiny"}


def kept(cache: Cache, teacher: Teacher, inputs: TaskInputs, block_size: int = BLOCK) -> Targets:
    module, task = module_of(teacher), distillation_task(teacher)
    return cached_outputs(cache, KEY, module, task, inputs, block_size)


def agree(one: Targets, other: Targets) -> None:
    """Both say the same, but for what a batch's width does to the last digits."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.float(), other[name].float(), rtol=1e-2, atol=1e-2)


@contextmanager
def calls(teacher: Teacher) -> Iterator[list[int]]:
    """How many sequences the teacher is asked at a time, inside the block."""
    sizes: list[int] = []

    def note(_: nn.Module, args: Any, kwargs: dict[str, Any], __: Any) -> None:
        given = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        sizes.append(len(given))

    handle = teacher.model.base_model.register_forward_hook(note, with_kwargs=True)
    try:
        yield sizes
    finally:
        handle.remove()


@pytest.mark.parametrize("name", CASES)
def test_answers_are_kept_row_by_row_whatever_the_batch(name: str) -> None:
    teacher = CASES[name].teacher()
    inputs, task = asked(teacher), distillation_task(teacher)
    found = [compute_outputs(module_of(teacher), task, inputs, size) for size in (1, 7)]
    assert {len(tensor) for tensor in found[0].values()} == {inputs.rows}
    agree(*found)


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_from_the_cache_is_what_was_answered(name: str, cache: Cache) -> None:
    teacher = CASES[name].teacher()
    inputs = asked(teacher)
    first = kept(cache, teacher, inputs)
    with calls(teacher) as sizes:
        again = kept(Cache(cache.folder), teacher, inputs)
    assert sizes == []
    assert all(torch.equal(first[name], again[name]) for name in first)
    agree(first, compute_outputs(module_of(teacher), distillation_task(teacher), inputs))


def test_the_teacher_is_asked_block_by_block(cache: Cache) -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    inputs = asked(teacher, texts(200), max_tokens=8)
    stop_after = 3

    def stop(*_: Any) -> None:
        if len(sizes) > stop_after:
            raise KeyboardInterrupt

    with calls(teacher) as sizes:
        stopping = teacher.model.base_model.register_forward_pre_hook(stop)
        with stopping, pytest.raises(KeyboardInterrupt):
            kept(cache, teacher, inputs, block_size=16)
        begun = len(sizes)
        found = kept(cache, teacher, inputs, block_size=16)
    # each block is one batch here; what was finished is not asked again
    assert (begun, len(sizes)) == (stop_after + 1, -(-len(inputs) // 16))
    assert sum(sizes) == len(inputs)
    agree(found, compute_outputs(module_of(teacher), distillation_task(teacher), inputs, 16))


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_language_models_answers_take_few_bytes_a_token_on_disk(name: str, cache: Cache) -> None:
    teacher = CASES[name].teacher()
    inputs = asked(teacher)
    kept(cache, teacher, inputs)
    files = [path for path in cache.folder.rglob("*") if path.is_file() and path.name != "lock"]
    columns = sum(path.stat().st_size for path in files if path.name != RECORD)
    assert columns / inputs.rows <= 300
    # the record is a checksum for each 256 sequences
    assert sum(path.stat().st_size for path in files) - columns < 1000


def test_answers_to_other_inputs_under_the_same_name_are_refused(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    kept(cache, teacher, asked(teacher, texts(60)))
    others = asked(teacher, texts(61)[1:])
    with pytest.raises(Mismatch, match="outputs were computed from other inputs; remove the"):
        kept(Cache(cache.folder), teacher, others)


def altered(batch: Batch, name: str, place: tuple[int, int], value: int) -> Batch:
    inputs = {key: tensor.clone() for key, tensor in batch.inputs.items()}
    inputs[name][place] = value
    return replace(batch, inputs=inputs)


@pytest.mark.parametrize("name", CASES)
def test_a_batch_that_differs_in_one_token_is_refused(name: str) -> None:
    teacher = CASES[name].teacher()
    inputs, targets = material(teacher)
    answers = CachedOutputs.of(inputs, targets)
    batch = inputs.batch([3, 5, 4])
    answers.to(batch)
    token = int(batch.inputs["input_ids"][1, 0])
    for other in (token + 1, token - 1):
        with pytest.raises(Mismatch, match="cached outputs were computed from other inputs than"):
            answers.to(altered(batch, "input_ids", (1, 0), other))
    with pytest.raises(Mismatch, match="remove the cache folder of the run"):
        answers.to(replace(batch, numbers=batch.numbers.flip(0)))


def test_a_batch_that_is_padded_otherwise_is_accepted() -> None:
    teacher = CASES["bert-sentences"].teacher()
    inputs, targets = material(teacher)
    batch = inputs.batch([3, 5, 4])
    pads = (batch.mask == 0).nonzero().tolist()
    assert pads
    other = altered(batch, "input_ids", (pads[0][0], pads[0][1]), 77)
    wider = {name: nn.functional.pad(one, (0, 3), value=0) for name, one in batch.inputs.items()}
    answers = CachedOutputs.of(inputs, targets)
    for same in (other, replace(batch, inputs=wider)):
        assert torch.equal(answers.to(same)["vector"], targets["vector"][batch.rows])


def online(teacher: Teacher, inputs: TaskInputs, settings: Distillation = EXACT) -> LiveOutputs:
    return LiveOutputs(
        module_of(teacher), settings.tuned(distillation_task(teacher)), inputs.labels
    )


@pytest.mark.parametrize("name", CASES)
def test_a_teacher_that_answers_anew_says_what_it_said(name: str) -> None:
    teacher = CASES[name].teacher()
    inputs, targets = material(teacher)
    answers = CachedOutputs.of(inputs, targets)
    for (batch,) in islice(inputs.shuffled(8, seed=1), 4):
        told = answers.to(batch)
        agree(online(teacher, inputs).to(batch), {n: told[n] for n in told})


@pytest.mark.parametrize("name", ["bert-sentences", "bert-texts", *LANGUAGE])
def test_students_learn_the_same_of_either(name: str) -> None:
    teacher = CASES[name].teacher()
    given = material(teacher)
    cached = taught(teacher, given, EXACT).losses
    anew = taught(teacher, given, EXACT, answers=online(teacher, given[0])).losses
    # log-probabilities are kept in half precision
    assert anew == pytest.approx(cached, rel=1e-2, abs=1e-3)


def test_a_teacher_that_is_asked_anew_gives_all_of_its_distribution() -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    inputs, _ = material(teacher)
    settings = replace(EXACT, losses=(LogitsKL(top=None),), answers="online")
    task = settings.tuned(distillation_task(teacher))
    answers = online(teacher, inputs, settings)
    found = answers.to(inputs.batch([0]))["logits"]
    assert found.shape == (15, teacher.config.vocab_size)
    assert not found.requires_grad
    run = taught(teacher, (inputs, {}), settings, answers=answers, task=task)
    assert run.losses[-1] < 0.9 * run.losses[0]


def test_answers_come_back_in_the_order_of_the_rows(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    inputs = asked(teacher)
    targets = kept(cache, teacher, inputs)
    alone = [
        compute_outputs(module_of(teacher), distillation_task(teacher), one(inputs, number))
        for number in (0, 17, 59)
    ]
    for number, answer in zip((0, 17, 59), alone, strict=True):
        torch.testing.assert_close(targets["vector"][[number]], answer["vector"])


def one(inputs: TaskInputs, number: int) -> Sequences:
    assert isinstance(inputs, Sequences)
    ids = inputs.ids.split(inputs.lengths.tolist())[number].tolist()
    return Sequences.of([ids], None, [-100], inputs.pad)


def test_the_hash_of_what_was_asked_is_no_answer(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    inputs = asked(teacher)
    assert set(kept(cache, teacher, inputs)) == {"vector"}
    assert list(cache.folder.glob(f"*/{ASKED}.bin"))


def test_judging_leaves_no_row_out() -> None:
    teacher, other = (CASES["bert-texts"].teacher(seed) for seed in (0, 1))
    inputs, targets = material(teacher)
    found = judge(module_of(other), distillation_task(teacher), inputs, targets)
    rows = []
    for batch in inputs.in_order(1):
        with torch.inference_mode():
            mine = other.model(**batch.inputs).logits.argmax(-1)
        rows.append((mine == targets["logits"][batch.rows].argmax(-1)).double())
    assert found["agrees"].sum() == torch.cat(rows).sum()
    assert len(found["agrees"]) == inputs.rows
