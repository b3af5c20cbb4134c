"""How the students of a study are judged: as its target runs them, or in float32."""

from collections.abc import Iterable

from protege.objectives import Objective
from protege.objectives.latency.runtimes.deployed import RUNTIMES
from protege.objectives.machine.precision import Deployment, check_precision
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
        check_precision(judged_as.precision)
        if judged_as.runtime not in RUNTIMES:
            raise BadInput(f"judged_as={judged_as!r}: students are judged on {', '.join(RUNTIMES)}")
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
    return Deployment(str(runtime), str(precision))
