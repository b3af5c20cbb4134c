"""How the students of a study are judged: as its target runs them, or in float32."""

from collections.abc import Iterable
from typing import cast

from protege.objectives import Objective
from protege.objectives.latency.runtimes.deployed import RUNTIMES
from protege.objectives.latency.runtimes.runtimes import (
    check_hardware,
    processor_features,
    runtime_named,
)
from protege.objectives.machine.precision import Deployment, Precision
from protege.spaces import BadInput

FLOAT32 = "float32"


def deployment_of(
    objectives: Iterable[Objective], judged_as: Deployment | str | None
) -> Deployment | None:
    """Return how finished students are run to be judged; None for float32 in PyTorch.

    Args:
        objectives: The objectives of the study.
        judged_as: What the study declares: a deployment, ``"float32"``, or None for that of the
            one target with another precision than float32.

    Raises:
        BadInput: Several targets have different precisions or runtimes, and none is chosen, or
            the runtime is unknown.
    """
    if judged_as == FLOAT32:
        return None
    if isinstance(judged_as, Deployment):
        check_runs_here(judged_as)
        return judged_as
    if judged_as is not None:
        raise BadInput(
            f"judged_as={judged_as!r}: expected 'float32', or a runtime and a precision, such as "
            "Deployment('onnxruntime', 'int8')"
        )
    found = {one for one in map(_of_target, objectives) if one is not None}
    if len(found) > 1:
        raise BadInput(
            f"targets in {' and in '.join(sorted(map(str, found)))}: say how qualities are judged, "
            "judged_as=Deployment('onnxruntime', 'int8') or judged_as='float32'"
        )
    return next(iter(found), None)


def _of_target(objective: Objective) -> Deployment | None:
    """Return how an objective's target runs models, if not in float32 and if it is known here."""
    target = getattr(objective, "target", None)
    precision, runtime = (getattr(target, name, None) for name in ("precision", "runtime"))
    if precision in {None, FLOAT32} or runtime not in RUNTIMES:
        return None
    found = Deployment(str(runtime), cast("Precision", precision))
    try:
        check_runs_here(found)
    except BadInput:  # another machine's runtime or arithmetic: judged in float32
        return None
    return found


def check_runs_here(how: Deployment) -> None:
    """Check that this machine runs models so.

    Raises:
        BadInput: The runtime is unknown or not installed, or it or this processor does not support
            the precision.
    """
    if how.runtime not in RUNTIMES:
        raise BadInput(f"judged_as={how!r}: students are judged on {', '.join(RUNTIMES)}")
    is_torch = how.runtime in {"eager", "compile"}
    runtime_named("eager" if is_torch else how.runtime, how.precision)
    if not is_torch:  # PyTorch emulates what the processor lacks
        check_hardware(how.precision, processor_features())
