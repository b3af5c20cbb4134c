"""Latencies that follow a law, so that what a model learns of them can be told right or wrong."""

import numpy as np

from protege.objectives import Workload
from protege.objectives.latency.predictor.model import LatencySample
from protege.objectives.latency.predictor.terms import Call
from protege.spaces import Architecture

CALL = Call(Workload(batch_size=1, prompt_tokens=128))

HEAD_DIM = 32


def encoder(layers: int, hidden: int, ffn: int) -> Architecture:
    """A BERT of these sizes, its heads 32 channels wide."""
    heads = hidden // HEAD_DIM
    return Architecture("bert", layers, hidden, heads, heads, HEAD_DIM, ffn, 30_522)


def law_ms(own: Architecture) -> float:
    """Milliseconds on an imagined processor: a call, layers, products, and values written."""
    layers, hidden, ffn = own.num_hidden_layers, own.hidden_size, own.intermediate_size
    tokens = 128
    products = 8 * hidden**2 + 4 * hidden * ffn + 4 * tokens * hidden
    return 0.3 + layers * (0.12 + tokens * products / 6e7 + tokens * (hidden + ffn) * 4e-6)


def students(count: int, seed: int = 0) -> list[Architecture]:
    """So many different encoders: 1 to 12 layers of 128 to 512 channels."""
    random = np.random.default_rng(seed)
    found: dict[str, Architecture] = {}
    while len(found) < count:
        hidden = 64 * int(random.integers(2, 9))
        ffn = 32 * round(hidden * float(random.uniform(2, 4)) / 32)
        one = encoder(int(random.integers(1, 13)), hidden, ffn)
        found[one.key()] = one
    return list(found.values())


def lawful(count: int, seed: int = 0, noise: float = 0.0) -> list[LatencySample]:
    """So many samples of `law_ms`, each off by a normal share of this standard deviation."""
    off = 1 + noise * np.random.default_rng(seed + 1).standard_normal(count)
    drawn = zip(students(count, seed), off.tolist(), strict=True)
    return [LatencySample(one, law_ms(one) * share) for one, share in drawn]
