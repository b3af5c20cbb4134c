"""Choose a student: the best within budgets or the knee of the front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.plain import printable
from protege.search.records.trial import Trial
from protege.search.records.wording import figure, grade_note, significant
from protege.spaces import BadInput

if TYPE_CHECKING:
    from protege.search.analysis.result import StudyResult

SPEEDUP = ObjectiveRecord("speedup", "", "maximize")
"""The objective of a budget on the speedup over the teacher."""


@dataclass(frozen=True)
class ChosenStudent:
    """One student of a front.

    Attributes:
        trial: Its trial.
        front: The front it was picked from.
        why: Why it was chosen, such as ``the best retention within 8 ms``; empty if it was named.
    """

    trial: Trial
    front: "StudyResult"
    why: str = ""

    def export(self, folder: str | Path | None = None) -> Path:
        """Write the student as a Hugging Face checkpoint; see `Front.export`."""
        return self.front.export(self.trial, folder)

    def train(self, data: Any = None, folder: str | Path | None = None, **options: Any) -> Path:
        """Train the student on its teacher's outputs; see `Front.train` for the options."""
        return self.front.train(self.trial, data, folder, **options)

    def export_for(
        self, trainer: Any, data: Any = None, folder: str | Path | None = None, **options: Any
    ) -> Path:
        """Write the student and a script for another trainer; see `Front.export_for`."""
        return self.front.export_for(self.trial, trainer, data, folder, **options)

    def __str__(self) -> str:
        trial, front = self.trial, self.front
        rows = {printable(one.name): _value(trial, one) for one in front.objectives.records}
        if isfinite(trial.speedup):
            rows["times faster"] = significant(trial.speedup)
        role = front.role(trial)
        rows["note"] = f"this is the {role}" if role else ""
        rows["chosen"] = self.why
        above = front.dominated.get(trial.number, ())
        rows["dominated within noise by"] = ", ".join(f"trial {number}" for number in above)
        notes = [grade_note(trial.measurements.get(name)) for name in front.objectives.names]
        rows["latency"] = "; ".join(dict.fromkeys(filter(None, notes)))
        shown = {name: text for name, text in rows.items() if text}
        width = max(map(len, shown))
        lines = [f"  {name:<{width}}  {text}" for name, text in shown.items()]
        return "\n".join([f"trial {trial.number}: {printable(trial.label)}", *lines])


@dataclass(frozen=True)
class Budget:
    """An upper bound on a cost, or a lower bound on a quality or on the speedup.

    Attributes:
        objective: The bounded objective; `SPEEDUP` for a speedup.
        stands_for: The same, or the latency for a speedup.
        bound: The worst value that a student may have.
        amount: The bound as people read it, such as ``15 ms`` or ``a speedup of 2``.
    """

    objective: ObjectiveRecord
    stands_for: ObjectiveRecord
    bound: float
    amount: str

    def meets(self, trial: Trial) -> bool:
        """Return whether the trial is within the budget."""
        sign = self.objective.sign
        return sign * value_of(trial, self.objective) <= sign * self.bound

    @property
    def is_cost(self) -> bool:
        """Whether it bounds a cost."""
        return self.stands_for.direction == "minimize"


def pick(front: "StudyResult", given: Mapping[str, float]) -> ChosenStudent:
    """Choose the best student within the budgets; see `Front.pick`.

    Raises:
        BadInput: A budget names no objective or is not finite, or no student is within all budgets.
    """
    budgets = [_budget(front, name, bound) for name, bound in given.items()]
    students = some_students(front)
    if not budgets:
        return knee(front)
    # students dominated within noise are picked only if no other is within the budgets
    within = _meeting(front.choices, budgets) or front.undominated(_meeting(students, budgets))
    if not within:
        raise BadInput(_missed(front, budgets))
    ranked = _ranked(front.objectives.records, budgets)
    best = min(within, key=lambda trial: [one.sign * value_of(trial, one) for one in ranked])
    return ChosenStudent(best, front, f"the {superlative(ranked[0])} {_within(budgets)}")


def _meeting(among: Sequence[Trial], budgets: Sequence[Budget]) -> list[Trial]:
    return [trial for trial in among if all(budget.meets(trial) for budget in budgets)]


def knee(front: "StudyResult") -> ChosenStudent:
    """Choose the student at the knee of the front; see `Front.knee`.

    Raises:
        BadInput: There is no student on the front.
    """
    some_students(front)
    reached = {
        one: [value_of(trial, one) for trial in front.members] for one in front.objectives.records
    }

    def lost(trial: Trial) -> list[float]:
        """Return the summed loss in all objectives, each relative to its range, then each loss."""
        shares = []
        for objective, values in reached.items():
            best, worst = sorted((min(values), max(values)), key=lambda v: objective.sign * v)
            shares.append((value_of(trial, objective) - best) / ((worst - best) or 1.0))
        return [sum(shares), *shares[::-1]]

    return ChosenStudent(
        min(front.choices, key=lost), front, "the knee of the front, as no budget was given"
    )


def some_students(front: "StudyResult") -> Sequence[Trial]:
    """Return the students on the front, without teacher and naive half.

    Raises:
        BadInput: There is no student on the front.
    """
    if front.students:
        return front.students
    study = f"study {front.name!r}"
    if not front.members:
        raise BadInput(f"{study}: the front is empty, no trial is within the study's limits")
    there = " and ".join(f"the {front.role(t)} (trial {t.number})" for t in front.members)
    raise BadInput(f"{study}: no student is on the front, only {there}; run more trials")


def value_of(trial: Trial, objective: ObjectiveRecord) -> float:
    """Return the trial's value of an objective, or its speedup."""
    return trial.speedup if objective is SPEEDUP else trial.measurements[objective.name].value


def superlative(objective: ObjectiveRecord) -> str:
    """Name the best value of an objective, such as ``least latency_ms``."""
    return f"{'least' if objective.direction == 'minimize' else 'best'} {printable(objective.name)}"


def _value(trial: Trial, objective: ObjectiveRecord) -> str:
    found = trial.measurements.get(objective.name)
    return figure(found) if found else "-"


def _budget(front: "StudyResult", name: str, bound: Any) -> Budget:
    objective = next((one for one in bounded(front) if one.name == name), None)
    if objective is None:
        raise BadInput(unknown(front, name))
    if isinstance(bound, bool) or not isinstance(bound, Real) or not isfinite(bound):
        raise BadInput(
            f"{name}={bound!r}: expected a number, such as {name}={_example(front, objective)}"
        )
    stands_for = (timed(front) if objective is SPEEDUP else None) or objective
    return Budget(objective, stands_for, float(bound), _amount(front, objective, f"{bound:g}"))


def unknown(front: "StudyResult", name: str, options: Sequence[str] = ()) -> str:
    """Return the error message for a budget on an unknown objective.

    Args:
        front: The front of the study.
        name: The unknown name.
        options: Other names to suggest, beside those of objectives.
    """
    names = [objective.name for objective in bounded(front)]
    near = get_close_matches(name, [*names, *options], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ";"
    return f"unknown objective {name!r}{hint} this study has {', '.join(names)}"


def bounded(front: "StudyResult") -> list[ObjectiveRecord]:
    """Return the objectives that a budget can bound, including the speedup if it was measured."""
    is_own = timed(front) is None or SPEEDUP.name in front.objectives.names
    return [*front.objectives.records, *([] if is_own else [SPEEDUP])]


def timed(front: "StudyResult") -> ObjectiveRecord | None:
    """Return the latency objective that `Trial.speedup` comes from, or None."""
    for trial in front.trials:
        for objective in front.objectives.records:
            found = trial.measurements.get(objective.name)
            if found and SPEEDUP.name in found.details:
                return objective
    return None


def _example(front: "StudyResult", objective: ObjectiveRecord) -> str:
    values = [value_of(trial, objective) for trial in front.members]
    return f"{values[len(values) // 2]:.3g}" if values else "1"


def _ranked(
    objectives: Sequence[ObjectiveRecord], budgets: Sequence[Budget]
) -> list[ObjectiveRecord]:
    """Order the objectives by which students within the budgets are compared.

    Those without a budget come first. Among them qualities come before costs, but costs come first
    if every budget is on a quality.
    """
    bounded = {budget.stands_for for budget in budgets}
    floors = not any(budget.is_cost for budget in budgets)
    first = "minimize" if floors else "maximize"
    return sorted(objectives, key=lambda one: (one in bounded, one.direction != first))


def _amount(front: "StudyResult", objective: ObjectiveRecord, value: str) -> str:
    """Return a value with its unit, or with the objective's name if others share the unit."""
    if objective is SPEEDUP:
        return f"a speedup of {value}"
    alone = [other.unit for other in front.objectives.records].count(objective.unit) == 1
    if objective.unit and alone:
        return f"{value} {objective.unit}"
    return f"{printable(objective.name)} {value}"


def _missed(front: "StudyResult", budgets: Sequence[Budget]) -> str:
    """Return the error message if no student is within the budgets: what each one costs."""
    given = ", ".join(f"{budget.objective.name}={budget.bound:g}" for budget in budgets)
    beyond = [budget for budget in budgets if not _meeting(front.students, [budget])]
    if beyond:
        costs = [_reached(front, budget) for budget in beyond]
    else:
        costs = [_price(front, budget, budgets) for budget in budgets]
        costs = sorted(costs, key=lambda price: not price.startswith(("within", "at")))
    costs += [
        f"the {front.role(trial)} is within it (trial {trial.number})"
        for trial in _meeting(front.members, budgets)
        if front.role(trial)
    ]
    return f"{given}: no student on the front is within that; {'; '.join(costs)}"


def _price(front: "StudyResult", budget: Budget, budgets: Sequence[Budget]) -> str:
    """Describe the best value of the budget's objective among students within the other budgets."""
    others = [other for other in budgets if other is not budget]
    within = _meeting(front.students, others)
    if not within:
        return _reached(front, budget)
    if not budget.is_cost:
        return f"{_within(others)} {_reached(front, budget, within)}"
    value, number = _best(budget, within)
    verb = "leaves" if budget.objective is SPEEDUP else "costs"
    return f"{_amounts(others)} {verb} {_amount(front, budget.objective, value)} (trial {number})"


def _reached(front: "StudyResult", budget: Budget, among: Sequence[Trial] = ()) -> str:
    """Describe the best value of the budget's objective among some students, by default all."""
    value, number = _best(budget, among or front.students)
    return f"the {superlative(budget.objective)} is {value} (trial {number})"


def _best(budget: Budget, among: Sequence[Trial]) -> tuple[str, int]:
    """Return the best value of the budget's objective, and the number of its trial."""
    objective = budget.objective
    best = min(among, key=lambda trial: objective.sign * value_of(trial, objective))
    return significant(value_of(best, objective)), best.number


def _within(budgets: Sequence[Budget]) -> str:
    costs = all(budget.is_cost and budget.objective is not SPEEDUP for budget in budgets)
    return f"{'within' if costs else 'at'} {_amounts(budgets)}"


def _amounts(budgets: Sequence[Budget]) -> str:
    return " and ".join(budget.amount for budget in budgets)
