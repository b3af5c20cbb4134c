"""Measure the distillation steps that a good start saves, for three starts and two teachers.

The starts are random weights; the seed recipe, every k-th layer and the first units; and ours,
greedy layers, neurons by `Surgeon`, sequential healing. All are trained on the same batches in the
same order, with the loss and the cached teacher outputs of a trial. Each start runs at the same
learning rates to the end, and its best run counts.

A rival is beaten at the first step at which our held-out loss is at most the rival's lowest.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from protege.objectives import Distillation
from protege.spaces import First, Greedy, Student, Surgeon, Teacher, Uniform
from studies.benchmarks import start_decoder, start_encoder
from studies.benchmarks.figures import Figure
from studies.benchmarks.start_cuts import calibrated
from studies.benchmarks.start_running import OURS, RANDOM, SEED, UNUSED, Answered, Race
from studies.smollm2_cpu import smollm2
from studies.snippets import snippets


def minilm(*, quick: bool) -> Race:
    """Prepare MiniLM on film reviews: 3 of 6 layers, half the FFN."""
    teacher, texts = start_encoder.minilm(), start_encoder.reviews()
    judged = start_encoder.JUDGED
    seen = texts[judged : judged + (256 if quick else start_encoder.CALIBRATING)]
    starts, seconds = started(
        teacher,
        {"layers": 3 / 6, "intermediate": 1 / 2},
        start_encoder.batches_of(teacher, seen),
        start_encoder.healing_of(teacher, seen),
    )
    return Race(
        "minilm",
        teacher,
        Answered.of(teacher, texts[judged:], 128, 320 if quick else 8000),
        Answered.of(teacher, texts[:judged], 128, 128),
        starts,
        rates=(3e-4, 1e-3),
        batch_size=16,
        steps=30 if quick else 1000,
        seconds=seconds,
    )


def smollm2_race(*, quick: bool) -> Race:
    """Prepare SmolLM2-135M on editorials: 10 of 30 layers, half the FFN."""
    teacher = smollm2()
    texts = [one.text for one in snippets("nytEditorialSnippets")]
    blocks = start_decoder.blocks_of(teacher)[start_decoder.JUDGED :]
    seen = blocks[: 64 if quick else 256]
    starts, seconds = started(
        teacher,
        {"layers": 10 / 30, "intermediate": 1 / 2},
        [start_decoder.batch_of(part) for part in seen.split(16)],
        start_decoder.batch_of(seen[: start_decoder.HEALING]),
    )
    return Race(
        "smollm2",
        teacher,
        Answered.of(teacher, texts[:-200], 64, 40 if quick else 1000),
        Answered.of(teacher, texts[-200:], 64, 32),
        starts,
        rates=(3e-4, 1e-3),
        batch_size=2,
        steps=10 if quick else 1000,
        seconds=seconds,
    )


def started(
    teacher: Teacher,
    ratios: Mapping[str, float],
    batches: list[Mapping[str, Any]],
    streams: Mapping[str, Any],
) -> tuple[dict[str, Student], float]:
    """Build the three starts; return them and the seconds that ours took."""
    sizes: Any = ratios
    begin = time.perf_counter()
    calibration = calibrated(teacher, batches, streams, [Greedy(), Surgeon()])
    ours = teacher.architecture.scaled(
        **sizes, layer_policy=Greedy(), width_policy=Surgeon(), healing="sequential"
    )
    student = teacher.student(ours, calibration)
    seconds = time.perf_counter() - begin
    seed = teacher.architecture.scaled(
        **sizes, layer_policy=Uniform(), width_policy=First(), healing="none"
    )
    return {
        OURS: student,
        SEED: teacher.student(seed),
        RANDOM: teacher.fresh(seed, how="random"),
    }, seconds


def by_layer(race: Race, *, quick: bool) -> Iterator[Figure]:
    """Yield the loss of our start after a short distillation with layer-wise rate decay."""
    steps = 5 if quick else 100
    plain = Distillation(UNUSED, steps=steps, batch_size=race.batch_size)
    losses = {
        decay: [_taught(race, replace(plain, layer_decay=decay), seed) for seed in range(2)]
        for decay in (1.0, 0.9, 0.7)
    }
    for decay in (0.9, 0.7):
        ratios = [one / other for one, other in zip(losses[decay], losses[1.0], strict=True)]
        name = f"{race.name} loss at layer_decay {decay} over 1.0"
        yield Figure.of(name, ratios, "", f"after {plain.steps} steps, in two orders of the data")


def _taught(race: Race, distillation: Distillation, seed: int) -> float:
    training = race.training(distillation, OURS, seed)
    list(training.run([distillation.steps]))
    loss = race.loss(training.student.module)
    print(f"{race.name}: layer_decay {distillation.layer_decay}: {loss:.4g}", flush=True)
    return loss


def minilm_figures(*, quick: bool) -> Iterator[Figure]:
    """Yield all figures of MiniLM."""
    race = minilm(quick=quick)
    yield from race.figures()
    yield from by_layer(race, quick=quick)


def smollm2_figures(*, quick: bool) -> Iterator[Figure]:
    """Yield all figures of SmolLM2."""
    yield from smollm2_race(quick=quick).figures()
