"""The importance of sizes for one objective, by Optuna's own evaluator."""

import warnings
from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from protege.objectives import Direction
from protege.search.storage.storage import quiet_optuna

BEST = 5
"""Students that count as the best, at least: with fewer PED-ANOVA is unstable."""


def importances(
    sizes: Sequence[Mapping[str, int]], values: Sequence[float], direction: Direction
) -> dict[str, float]:
    """Return the importance of each size for reaching the best values of an objective.

    PED-ANOVA (Watanabe et al., IJCAI 2023) compares the sizes of the best tenth of the students, at
    least `BEST`, with those of all. The importances sum to 1; they are NaN if they cannot be told
    apart.

    Args:
        sizes: The sizes of each finished student; all have the same names.
        values: The students' values of the objective, in the same order.
        direction: Whether lower or higher values are better.
    """
    known = {name: sorted({one[name] for one in sizes}) for name in sizes[0]}
    spaces = {name: IntDistribution(found[0], found[-1]) for name, found in known.items()}
    quantile = min(max(0.1, BEST / len(values)), 0.5)
    with quiet_optuna(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(direction=direction)
        study.add_trials(
            [
                create_trial(
                    state=TrialState.COMPLETE,
                    value=value,
                    params={name: one[name] for name in spaces},
                    distributions=dict(spaces),
                )
                for one, value in zip(sizes, values, strict=True)
            ]
        )
        evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
        found = get_param_importances(study, evaluator=evaluator, normalize=False)
    total = sum(found.values())
    return {name: found[name] / total if total else float("nan") for name in spaces}
