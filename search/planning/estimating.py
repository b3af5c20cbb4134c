"""Estimates of time and memory of the costly phases of a study."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from protege.objectives.candidate import Prepared
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.search.planning.needs import Needs
from protege.search.planning.probing import probe_training
from protege.spaces import Architecture, BadInput, Teacher
from protege.spaces.calibration.blocks import Blocks
from protege.spaces.calibration.calibration import FEW
from protege.spaces.calibration.layers import TOKENS, TRIED
from protege.spaces.calibration.surgeon import removal_ranks
from protege.spaces.files.memory import available_bytes, gigabytes, resident_bytes
from protege.spaces.models.activations import HEADS, shapes
from protege.spaces.models.batches import headless
from protege.spaces.remaining import duration
from protege.spaces.residual.states import tokens_for

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

    @property
    def fits(self) -> bool:
        """Whether it fits in the free memory; true if that is unknown."""
        free = available_bytes()
        return free is None or self.held <= free

    def in_parts(self, parts: int) -> "Estimate":
        """Return the estimate with `parts` times as many parts for each batch."""
        less = self.activations * (1 - 1 / parts)
        return replace(self, bytes=self.bytes - less, activations=self.activations - less)

    @property
    def held(self) -> float:
        """Bytes that the kernel cannot drop."""
        return self.bytes - self.mapped

    def line(self) -> str:
        """Return the estimate as one line of text."""
        peak = resident_bytes() + self.bytes
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.phase}{detail}: about {duration(self.seconds)}, peak {gigabytes(peak)}"

    def check(self, advice: str) -> None:
        """Check that the phase fits in memory.

        Raises:
            BadInput: It does not; the message has the bytes needed, the bytes free and the advice.
        """
        free = available_bytes()
        if free is not None and not self.fits:
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


def calibration_estimate(
    teacher: Teacher, sequences: TaskInputs, needs: Needs, plan: Blocks, rates: Rates
) -> Estimate:
    """Estimate a calibration.

    Args:
        teacher: The teacher.
        sequences: The calibration data.
        needs: What is measured.
        plan: The second moments of each pass.
        rates: Speed of this machine.
    """
    tokens, own = float(sequences.lengths.sum()), teacher.architecture
    found = shapes(teacher)
    wanted = {name for one in plan.passes for name in one}
    pairs = sum(found[name][0] * found[name][1] ** 2 for name in wanted)
    seconds = tokens * (len(plan.passes) * rates.token_s + 2 * pairs * rates.multiply_s)
    few = min(tokens, FEW)
    if "taylor" in needs.criteria or "gradient" in needs.heads_by:
        seconds += 3 * few * rates.token_s
    if "ablation" in needs.heads_by:
        heads = sum(layers for name, (layers, _) in found.items() if name.split(".")[-1] in HEADS)
        seconds += min(tokens, 2048) * rates.token_s * heads * own.num_attention_heads / 2
    if "surgeon" in needs.criteria:
        ffns = [shape for name, shape in found.items() if name in wanted and name.endswith(".ffn")]
        width = own.hidden_size
        seconds += sum(layers * rates.ranking_s(units, width) for layers, units in ffns)
    if {"influence", "contiguous"} & set(needs.layers):
        seconds += few * rates.token_s
    seconds += _ladder_runs(teacher, needs) * min(tokens, TOKENS) * rates.token_s
    streamed = min(tokens, tokens_for(own.hidden_size)) if needs.streams else 0
    seconds += 2 * streamed * rates.token_s
    passes = f"{len(plan.passes)} pass{'es' if len(plan.passes) > 1 else ''}"
    detail = f"{tokens:,.0f} tokens, {passes}"
    if plan.disk_bytes:
        detail += f", {gigabytes(plan.disk_bytes)} of second moments on disk"
    peak = _calibration_bytes(teacher, sequences, needs, plan, pairs)
    # second moments on disk are memory-mapped
    mapped = 4.0 * pairs if plan.on_disk else 0.0
    return Estimate("calibration", peak, seconds, detail, min(mapped, peak))


def _ladder_runs(teacher: Teacher, needs: Needs) -> float:
    """Return the cost of the greedy layer ladders in passes of the teacher."""
    total = 0.0
    for stack, least in needs.depths.items():
        depth = teacher.layout.depths.get(stack, least)
        rungs = depth - least
        if rungs > 0:
            # each try runs the layers from the tried one on, and most rungs try few layers
            later = sum(min(TRIED, depth - rung) * (1 - rung / depth) for rung in range(1, rungs))
            total += depth / 2 + later / 4
    return total


def _calibration_bytes(
    teacher: Teacher, sequences: TaskInputs, needs: Needs, plan: Blocks, pairs: float
) -> float:
    """Return the peak memory of a calibration."""
    own, found = teacher.architecture, shapes(teacher)
    longest = int(sequences.lengths.max())
    at_once = min(float(sequences.lengths.sum()), 32.0 * longest)
    widest = max(units for _, units in found.values())
    passing = 4 * at_once * (6 * own.hidden_size + 6 * widest)
    moments = 4.0 * pairs
    ranking = 48.0 * widest**2 if "surgeon" in needs.criteria else 0.0
    laddering = 4.0 * TOKENS * (3 * own.hidden_size * sum(teacher.layout.depths.values()))
    laddering += 16.0 * TOKENS * own.vocab_size if needs.depths else 0.0
    norms = found["hidden"][0]
    streams = 8.0 * norms * own.hidden_size * tokens_for(own.hidden_size) if needs.streams else 0.0
    # the stored copy is memory-mapped while the first copy is still in memory
    measured = plan.bytes + (moments if plan.on_disk else 0) + max(passing, ranking, laddering)
    return max(measured, 2 * moments, moments + streams)


def held_bytes(teacher: Teacher, needs: Needs) -> float:
    """Return the memory-mapped bytes of a calibration while students are built."""
    found = shapes(teacher).items()
    kept = [shape for name, shape in found if name.rpartition(".")[2] in needs.grams]
    moments = 4.0 * sum(layers * units**2 for layers, units in kept)
    own = teacher.architecture
    norms = shapes(teacher)["hidden"][0]
    streams = 4.0 * norms * own.hidden_size * tokens_for(own.hidden_size)
    return moments + (streams if needs.streams else 0.0)


def training_estimate(
    prepared: Prepared, member: Architecture, rates: Rates, held: float
) -> Estimate:
    """Estimate building, healing, training and evaluating a student.

    Args:
        prepared: What all students share.
        member: The student.
        rates: Speed of this machine.
        held: Bytes of the calibration.
    """
    teacher, settings = prepared.teacher, prepared.settings
    probe = probe_training(prepared, member)
    weights = float(teacher.blueprint(member).skeleton().num_parameters())
    heal = _heal_seconds(teacher, member, rates) if member.healing == "sequential" else 0.0
    share = weights / teacher.model.num_parameters()
    judged = float(prepared.data.selected.lengths.sum()) * rates.token_s * share
    rungs = len(settings.rung_steps) if settings.steps else 1
    seconds = heal + settings.steps * probe.step_s + rungs * judged
    detail = f"{member.num_hidden_layers}x{member.hidden_size} ffn {member.intermediate_size}, "
    detail += f"{weights / 1e6:,.0f}M weights, {settings.steps} steps"
    # weights, those of the best rung, gradients and the two moments of AdamW
    peak = held + weights * (20 if settings.steps else 4) + probe.saved_bytes
    # bf16 copies of the weights are kept for the backward pass and do not shrink
    activations = max(0.0, probe.saved_bytes - 2 * weights)
    return Estimate("largest student", peak, seconds, detail, held, activations)


def _heal_seconds(teacher: Teacher, member: Architecture, rates: Rates) -> float:
    """Return the time of sequential healing, a least-squares fit per output projection."""
    own, tokens = teacher.architecture, tokens_for(teacher.architecture.hidden_size)
    layers = member.num_hidden_layers + member.num_decoder_layers
    width, operations = float(own.hidden_size), 0.0
    for units in (
        float(member.num_attention_heads * member.head_dim),
        float(member.intermediate_size),
    ):
        fit = 2 * tokens * units * (units + 2 * width) + units**3 / 3 + 2 * units**2 * width
        from_moments = units**3 / 3 + 4 * units**2 * width if units < own.intermediate_size else 0
        operations += layers * (fit + from_moments)
    return operations * rates.multiply_s + tokens * rates.token_s


def largest(members: list[Architecture], teacher: Teacher) -> Architecture | None:
    """Return the student with the most weights, or None if the teacher is the only member."""
    students = [one for one in members if one != teacher.architecture]
    return max(students, key=_size, default=None)


def _size(one: Architecture) -> tuple[int, ...]:
    inner = one.intermediate_size + one.num_experts * one.moe_intermediate_size
    depth = one.num_hidden_layers + one.num_decoder_layers
    heads = one.num_attention_heads * one.head_dim
    return (depth * one.hidden_size * (2 * heads + 3 * inner), one.vocab_size)


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
