"""Declare a space of over twenty million members, ask it everything, and tell what that takes."""

import json
import resource
import sys
import time
from typing import Any

import numpy as np

from protege.spaces import (
    Activation,
    Architecture,
    Choice,
    Ends,
    Greedy,
    Influence,
    Range,
    SearchSpace,
    Surgeon,
    Task,
    Teacher,
    Wanda,
)
from tests.tiny import Case

BERT = {
    "num_hidden_layers": 8,
    "hidden_size": 96,
    "num_attention_heads": 24,
    "intermediate_size": 160,
}

SPACES: dict[str, dict[str, Any]] = {
    "tiny BERT": {
        "layers": Range(0.1, 1.0),
        "hidden": Range(0.01, 1.0, 1 / 24),
        "intermediate": Range(0.01, 1.0, 1 / 160),
        "vocab": Range(0.1, 1.0, 1 / 96),
        "layer_policy": Choice(Greedy(), Influence(), Ends()),
        "width_policy": Choice(Surgeon(), Wanda(), Activation()),
        "multiple_of": 1,
    },
    "decoder": {
        "layers": Range(0.1, 1.0),
        "hidden": Range(0.1, 1.0, 1 / 18),
        "heads": Range(1 / 3, 1.0, 1 / 3),
        "kv_heads": Range(1 / 3, 1.0, 1 / 3),
        "intermediate": Range(0.1, 1.0, 1 / 96),
        "vocab": Range(0.1, 1.0, 1 / 200),
    },
}


def teacher_of(kind: str) -> Teacher | Architecture:
    if kind == "tiny BERT":
        return Case("bert", Task.FILL_MASK, BERT).teacher()
    return Architecture("llama", 30, 576, 9, 3, 64, 1536, 49152)


def main(kind: str) -> None:
    teacher = teacher_of(kind)
    SearchSpace(layers=0.5, hidden=0.5).of(teacher)  # imports what families import when first used
    before, began = peak_mb(), time.process_time()
    space = SearchSpace(**SPACES[kind]).of(teacher)
    constructed = time.process_time() - began
    found = [*space.anchors, *space.smallest, *space.drawn(1000, np.random.RandomState(0))]
    found += [space.nearest(space.params(one), excluding=[one]) for one in found[:20]]
    found += [space.farthest(found), *space.around(found[-1])]
    assert all(space.by_key[one.key()] == one for one in found)
    seen = {"members": len(space), "seconds": constructed, "megabytes": peak_mb() - before}
    sys.stdout.write(json.dumps(seen))


def peak_mb() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(sys.argv[1])
