"""Fit the latency model to fifteen encoders and test it on ten others."""

import random
from collections.abc import Iterator

import numpy as np
from scipy.stats import kendalltau

from protege.objectives.latency import LocalCPU, Plan, Workload
from protege.objectives.latency.predictor.model import LatencyModel, LatencySample
from protege.objectives.latency.predictor.terms import Call
from protege.objectives.latency.timing.comparison import timed
from studies.benchmarks.encoders import REFERENCE, Encoder
from studies.benchmarks.figures import Figure

WORKLOAD = Workload(batch_size=1, prompt_tokens=64)
LEARNT, HELD_OUT, SPLITS = 15, 10, 20


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield errors and rank correlation on held-out architectures, over random splits."""
    learnt, held_out = (4, 2) if quick else (LEARNT, HELD_OUT)
    samples = [_measured(one) for one in drawn(learnt + held_out)]
    errors, taus = [], []
    for seed in range(SPLITS):
        order = random.Random(seed).sample(samples, len(samples))
        model, asked = LatencyModel.fit(order[:learnt], Call(WORKLOAD)), order[learnt:]
        predicted = [model.predict(one.architecture)[0] for one in asked]
        true = [one.value for one in asked]
        errors.append(float(np.mean(np.abs(np.divide(predicted, true) - 1))))
        taus.append(float(kendalltau(predicted, true).statistic))
    splits = f"{held_out} held out, {learnt} learnt, {SPLITS} splits of one set"
    yield Figure.of("model error", errors, "", f"at most 0.03; {splits}")
    yield Figure.of("model kendall", taus, "", f"at least 0.9; {splits}")


def drawn(count: int) -> list[Encoder]:
    """Draw distinct random encoders."""
    chance, found = random.Random(0), dict[Encoder, None]()
    while len(found) < count:
        hidden = chance.choice([128, 192, 256, 320, 384, 448, 512])
        one = Encoder(chance.randint(2, 9), hidden, hidden * chance.choice([2, 3, 4]))
        found[one] = None
    return list(found)


def _measured(one: Encoder) -> LatencySample:
    timing = timed((REFERENCE.blueprint, one.blueprint), WORKLOAD, LocalCPU(), Plan())
    return LatencySample(one.architecture, timing.ratio())
