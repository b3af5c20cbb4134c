"""The cost of a phase of a study, and the speed of this machine with a teacher."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.spaces import BadInput, Teacher
from protege.spaces.calibration.surgeon import removal_ranks
from protege.spaces.files.memory import gigabytes, resident_bytes, unmapped_bytes
from protege.spaces.models.activations import shapes
from protege.spaces.models.batches import headless
from protege.spaces.remaining import duration

WORTH_TELLING = 1e11
"""Default operations of one pass over the data from which on estimates are reported; about a
second."""

PROBED_TOKENS = 512
"""Tokens of the forward pass that is timed."""


@dataclass(frozen=True)
class Estimate:
    """Memory and time of one phase.

    Attributes:
        phase: Name of the phase.
        bytes: Peak of additional resident memory.
        seconds: Duration.
        detail: Details for the message.
        mapped: Bytes of it that are memory-mapped files, which the kernel can drop.
        activations: Bytes of it that shrink if batches are split into parts.
    """

    phase: str
    bytes: float
    seconds: float
    detail: str = ""
    mapped: float = 0.0
    activations: float = 0.0

    def in_parts(self, parts: int) -> "Estimate":
        """Return the estimate with `parts` times as many parts for each batch."""
        less = self.activations * (1 - 1 / parts)
        return replace(self, bytes=self.bytes - less, activations=self.activations - less)

    @property
    def held(self) -> float:
        """Bytes that the kernel cannot drop."""
        return self.bytes - self.mapped

    def line(self, free: float) -> str:
        """Return the estimate as one line of text.

        Args:
            free: Bytes of free memory; the kernel drops mapped files, also those that are resident
                now, beyond them.
        """
        peak = min(resident_bytes() + self.bytes, unmapped_bytes() + max(self.held, free))
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.phase}{detail}: about {duration(self.seconds)}, peak {gigabytes(peak)}"

    def check(self, free: float, advice: str) -> None:
        """Check that the phase fits in the free memory.

        Raises:
            BadInput: It does not; the message has the bytes needed, the bytes free and the advice.
        """
        if self.held > free:
            raise BadInput(
                f"{self.phase} takes about {gigabytes(self.held)} of memory and "
                f"{gigabytes(free)} are free; {advice}"
            )


@dataclass(frozen=True)
class Rates:
    """Speed of this machine with a teacher.

    Attributes:
        token_s: Seconds per token of a forward pass.
        multiply_s: Seconds per operation of an fp32 matrix product.
        double_s: The same in fp64.
        rank_s: Seconds of ranking the neurons of a layer that do not depend on their number.
        rank_square_s: Seconds of moving its matrices, divided by the square of their number.
    """

    token_s: float
    multiply_s: float
    double_s: float
    rank_s: float = 0.0
    rank_square_s: float = 0.0

    @classmethod
    def of(cls, teacher: Teacher, sequences: TaskInputs) -> "Rates":
        """Measure the rates in a few seconds."""
        asked = sequences.up_to(PROBED_TOKENS)
        # as one batch: a single sequence takes several times as long per token
        batch = asked.batch(range(len(asked)))
        inputs = {name: values for name, values in batch.inputs.items() if name != "labels"}
        tokens = max(1, int(asked.lengths.sum()))
        with torch.inference_mode():
            forward = _best(lambda: headless(teacher.model)(**inputs))
        wide = max((units for _, units in shapes(teacher).values()), default=64)
        size = min(wide, 1024)
        draw = torch.Generator().manual_seed(0)  # leaves the global generator alone
        values = torch.randn(PROBED_TOKENS, size, generator=draw)
        total = torch.zeros(size, size)
        multiply = _best(lambda: total.addmm_(values.T, values))
        both, sums = values.double(), total.double()
        double = _best(lambda: sums.addmm_(both.T, both))
        products = 2 * PROBED_TOKENS * size**2
        found = cls(forward / tokens, multiply / products, double / products)
        few, many = max(64, size // 4), max(128, size)
        share = teacher.architecture.hidden_size / wide
        least, most = (_ranking(count, share, found) for count in (few, many))
        square = max(0.0, (most - least) / (many**2 - few**2))
        return replace(found, rank_s=max(0.0, least - square * few**2), rank_square_s=square)

    def products_s(self, units: int, outputs: int) -> float:
        """Return the seconds of the matrix products in ranking the neurons of a layer.

        They are in fp64: decomposition, inverse and updates of the inverse, ``5/3 units^3``
        operations, and updates of the weights.
        """
        return self.double_s * units**2 * (5 / 3 * units + outputs)

    def ranking_s(self, units: int, outputs: int) -> float:
        """Return the seconds of ranking the neurons of a layer."""
        return self.rank_s + self.rank_square_s * units**2 + self.products_s(units, outputs)


def is_costly(teacher: Teacher, sequences: TaskInputs, worth: float = WORTH_TELLING) -> bool:
    """Return whether one pass over these sequences takes more than `worth` operations."""
    tokens = float(sequences.lengths.sum())
    return 2 * teacher.model.num_parameters() * tokens > worth


def _ranking(units: int, share: float, rates: Rates) -> float:
    """Measure the ranking of some neurons, without its matrix products.

    Args:
        units: The number of neurons.
        share: Outputs of the projection per neuron.
        rates: The speed of matrix products.
    """
    outputs = max(16, round(share * units))
    weight = torch.randn(outputs, units, generator=torch.Generator().manual_seed(0))
    gram = torch.eye(units) + 0.01
    took = _best(lambda: removal_ranks(gram, weight, 4096.0))
    return max(0.0, took - rates.products_s(units, outputs))


def _best(run: Callable[[], object], times: int = 2) -> float:
    """Return the seconds of the fastest run; the first one warms up."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return max(min(found), 1e-9)
