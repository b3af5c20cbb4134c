"""Report time and memory of costly phases in advance; refuse what does not fit in memory."""

from collections.abc import Callable

from protege.objectives.candidate import Prepared
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.mixed_precision import device_of
from protege.search.planning.estimating import (
    WORTH_TELLING,
    Rates,
    calibration_estimate,
    held_bytes,
    is_costly,
    largest,
    training_estimate,
)
from protege.search.planning.needs import Needs
from protege.spaces import Architecture, BadInput, ProtegeError, Teacher
from protege.spaces.calibration.blocks import Room, blocks
from protege.spaces.calibration.calibration import wanted
from protege.spaces.files.memory import available_bytes
from protege.spaces.models.placement import can_spill, spill

Tell = Callable[[str], None]


def check_calibration_cost(
    teacher: Teacher,
    sequences: TaskInputs,
    needs: Needs,
    room: Room,
    tell: Tell,
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
    estimate.check("read fewer tokens, cut fewer axes, or choose policies that need no data")
    tell(estimate.line())


def left_out(name: str) -> str:
    """Return the note on a site whose second moments do not fit in memory."""
    stand_in = "; its neurons are ranked by wanda" if name.endswith(".ffn") else ""
    return f"{name}: too wide for second moments on this machine{stand_in}, healed without them"


def check_training_cost(
    prepared: Prepared, members: list[Architecture], worth: float = WORTH_TELLING
) -> int:
    """Report what training the largest student of a space takes.

    If it takes more than half of the free memory, the teacher's weights are moved to memory-mapped
    files, as training does not read them. If that is not enough, batches are split into parts.

    Args:
        prepared: What all students share; its stopwatch tells each line of the report.
        members: The students of the space.
        worth: Operations of one pass over the data from which on there is a report.

    Returns:
        The number of parts per batch; 1 for whole batches.

    Raises:
        BadInput: This machine has too little memory.
    """
    teacher, settings, tell = prepared.teacher, prepared.settings, prepared.stopwatch.tell
    folder, learnt = prepared.cache.folder, prepared.data.learnt
    member = largest(members, teacher)
    on_cpu = device_of(settings.device).type == "cpu"
    if member is None or not on_cpu or not is_costly(teacher, learnt, worth):
        return 1
    needs = Needs.of_members(members, teacher.architecture)
    try:
        rates = Rates.of(teacher, learnt)
        estimate = training_estimate(prepared, member, rates, held_bytes(teacher, needs))
    except BadInput:
        raise
    except ProtegeError as error:  # the trial will report the error
        tell(f"largest student: memory and time could not be estimated ({error})")
        return 1
    free = available_bytes()
    if free is not None and estimate.held > free / 2 and can_spill(teacher.model, folder):
        spill(teacher.model, folder)
        tell("the teacher's weights are memory-mapped from now on: training needs the memory")
    parts, most = 1, settings.batch_size // settings.accumulate
    while not estimate.in_parts(parts).fits and 2 * parts <= most:
        parts *= 2
    if parts > 1:
        tell(f"each batch is read in {parts * settings.accumulate} parts: memory")
    estimate = estimate.in_parts(parts)
    estimate.check("make the largest student smaller, or lower batch_size")
    tell(estimate.line())
    return parts * settings.accumulate
