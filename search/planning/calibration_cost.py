"""Time and memory of a calibration; refuse one that does not fit in memory."""

from collections.abc import Callable

from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.search.planning.estimate import WORTH_TELLING, Estimate, Rates, is_costly
from protege.search.planning.needs import Needs
from protege.spaces import Teacher
from protege.spaces.architecture.layer_policies import LADDERS, Closest
from protege.spaces.calibration.blocks import Blocks, Room, blocks
from protege.spaces.calibration.calibration import FEW, wanted
from protege.spaces.calibration.closest import TOKENS as HEALED_TOKENS
from protege.spaces.calibration.closest import spaced
from protege.spaces.calibration.fisher import TOKENS as SENSITIVITY_TOKENS
from protege.spaces.calibration.layers import TOKENS, TRIED
from protege.spaces.files.memory import gigabytes
from protege.spaces.models.activations import HEADS, shapes
from protege.spaces.residual.states import tokens_for


def check_calibration_cost(
    teacher: Teacher,
    sequences: TaskInputs,
    needs: Needs,
    room: Room,
    tell: Callable[[str], None],
    worth: float = WORTH_TELLING,
) -> None:
    """Report what a calibration takes.

    Args:
        teacher: The teacher.
        sequences: The calibration data.
        needs: What is measured.
        room: Memory and disk for second moments.
        tell: Called with each line of the report.
        worth: Operations of one pass over the data from which on there is a report.

    Raises:
        BadInput: This machine has too little memory.
    """
    axes = {*needs.grams, *(["ffn"] if "surgeon" in needs.criteria else [])}
    plan = blocks(wanted(teacher, axes), room)
    for name in plan.left_out:
        tell(left_out(name))
    if not is_costly(teacher, sequences, worth):
        return
    rates = Rates.of(teacher, sequences)
    estimate = calibration_estimate(teacher, sequences, needs, plan, rates)
    estimate.check(
        room.free, "read fewer tokens, cut fewer axes, or choose policies that need no data"
    )
    tell(estimate.line(room.free))


def left_out(name: str) -> str:
    """Return the note on a site whose second moments do not fit in memory."""
    stand_in = "; its neurons are ranked by wanda" if name.endswith(".ffn") else ""
    return f"{name}: too wide for second moments on this machine{stand_in}, healed without them"


def calibration_estimate(
    teacher: Teacher, sequences: TaskInputs, needs: Needs, plan: Blocks, rates: Rates
) -> Estimate:
    """Estimate a calibration."""
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
        seconds += 3 * min(tokens, SENSITIVITY_TOKENS) * rates.token_s
    if {"influence", "contiguous", "closest"} & set(needs.layers):
        seconds += few * rates.token_s
    seconds += _ladder_runs(teacher, needs) * min(tokens, TOKENS) * rates.token_s
    seconds += _comparisons(teacher, needs) * min(tokens, HEALED_TOKENS) * rates.token_s
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


def _comparisons(teacher: Teacher, needs: Needs) -> float:
    """Return the cost of comparing healed students of different layers, in passes of the teacher.

    A student is healed and judged, and its refits take about as long as its pass.
    """
    if Closest.name not in needs.layers:
        return 0.0
    ends = (
        (least, teacher.layout.depths.get(stack, 0) - 1) for stack, least in needs.depths.items()
    )
    students = sum(len(LADDERS) * len(spaced(least, most)) for least, most in ends if most >= least)
    return 3.0 * students


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
