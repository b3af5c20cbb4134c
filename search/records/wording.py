"""Formatting of numbers, names and notes for tables and reports."""

from collections.abc import Iterable, Sequence
from math import floor, isfinite, log10
from typing import Protocol

from protege.objectives import Measurement
from protege.objectives.latency import ERROR_FLOOR, Grade
from protege.search.records.trial import State, Trial


class Quantity(Protocol):
    """Something with a name and a unit, such as an `ObjectiveRecord`."""

    @property
    def name(self) -> str:
        """Its name, which may end with the unit."""

    @property
    def unit(self) -> str:
        """Its unit; empty for a ratio."""


SIZES = {
    "num_hidden_layers": "layers",
    "num_decoder_layers": "decoder layers",
    "hidden_size": "hidden size",
    "num_attention_heads": "heads",
    "num_key_value_heads": "KV heads",
    "intermediate_size": "feed-forward",
    "num_experts": "experts",
    "moe_intermediate_size": "expert width",
    "vocab_size": "vocabulary",
    "layer_policy": "layer policy",
    "width_policy": "width policy",
    "healing": "healing",
}
"""Words for the sizes and policies in which students differ."""

FLOOR = "floor"
"""Marks a standard error that was raised to the minimum claimed."""

CHOSEN = ("layer_policy", "width_policy", "healing")
"""Policies by which a student of given sizes is made."""

WITHIN_NOISE, DOMINATED_BY = "within noise of", "dominated within noise by"
"""Headings of the columns for ties and dominance within noise."""

OVERTAKEN_BY = "dominated when confirmed by"
"""Heading of the column for dominance by confirmed figures."""

RARELY_CUT = ("num_decoder_layers", "num_experts", "moe_intermediate_size", "vocab_size")
"""Sizes that few studies search; tables show them only if trials differ in them."""

AS_CUT = "not improved: as cut and healed"
"""Note on a student that training could not improve."""


def unimproved(trials: Iterable[Trial]) -> str:
    """Return a sentence on the students that training could not improve, or an empty string.

    They are published with their weights and figures before training.
    """
    steps = [trial.best_step for trial in trials if trial.best_step is not None]
    count = steps.count(0)
    if not count:
        return ""
    them = "it is" if count == 1 else "they are"
    return (
        f"Training did not improve {count} of {len(steps)} trained students: {them} published "
        "as cut and healed."
    )


def outcome(trial: Trial, names: Iterable[str], *, on_front: bool, is_teacher: bool = False) -> str:
    """Return a line on a trial that ended: the student, its figures, and what became of it.

    Args:
        trial: The trial.
        names: The objectives of the study.
        on_front: Whether it is on the front of the trials so far.
        is_teacher: Whether it is the teacher's own trial.
    """
    figures = [
        f"{name} {significant(trial.measurements[name].value)}"
        for name in names
        if name in trial.measurements
    ]
    if isfinite(trial.speedup):
        figures.append(f"{trial.speedup:.2f} times faster")
    if trial.state is State.COMPLETE:
        end = "the teacher" if is_teacher else "on the front" if on_front else "dominated"
    else:
        end = f"{trial.state}: {trial.reason}"
    return f"{trial.label}: {'; '.join(filter(None, [', '.join(figures), end]))}"


def misled(trials: Iterable[Trial]) -> str:
    """Return a sentence on the students that the distillation made worse, or an empty string."""
    trained = [trial for trial in trials if trial.untrained]
    worse = [trial for trial in trained if trial.harmed]
    if not worse:
        return ""
    names = " and ".join(dict.fromkeys(name for trial in worse for name in trial.harmed))
    return (
        f"Distillation worsened {names} in {len(worse)} of {len(trained)} students that it "
        f"improved otherwise ({listed(trial.number for trial in worse)}): let a score with "
        "at_rungs that stands first select the weights, or train more gently."
    )


def rarely_cut(trials: Iterable[Trial]) -> list[str]:
    """Return the `RARELY_CUT` sizes in which these trials differ."""
    sizes = [trial.architecture for trial in trials]
    return [name for name in RARELY_CUT if len({own.get(name) for own in sizes}) > 1]


def listed(numbers: Iterable[int]) -> str:
    """Format trial numbers: ``t3 t12``."""
    return " ".join(f"t{number}" for number in numbers)


def figure(found: Measurement) -> str:
    """Format a value with its standard error; ``(floor)`` marks the minimum claimed error."""
    # exact values have errors from rounding alone
    spread = found.spread if found.spread > 1e-9 else 0.0
    floor = f" ({FLOOR})" if ERROR_FLOOR in found.details else ""
    return f"{found.value:.4g} ± {spread:.2g}{floor}"


def grade_note(found: Measurement | None) -> str:
    """Return a note on a latency's grade; empty for grade A and for other measurements."""
    grade = found.details.get("grade") if found else None
    return f"grade {grade}: {Grade(str(grade)).meaning}" if grade and grade != Grade.A else ""


def decimals(values: Sequence[float], digits: int = 3) -> int:
    """Return the decimals that show the smallest value to `digits` digits.

    No value is shown to more than one digit beyond that.
    """
    sizes = [floor(log10(abs(value))) for value in values if value and isfinite(value)]
    if not sizes:
        return 0
    return max(0, min(digits - 1 - min(sizes), digits - max(sizes)))


def significant(value: float, digits: int = 3) -> str:
    """Format a value to `digits` significant digits; ``-`` if it is not finite."""
    if not isfinite(value):
        return "-"
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits}g}"
    return f"{value:,.{decimals([value], digits)}f}"


def millions(count: int) -> str:
    """Format a number of parameters: ``12.3 M``."""
    return f"{significant(count / 1e6)} M"


def titled(objective: Quantity) -> str:
    """Return the objective's name with its unit: ``Latency (ms)`` for ``latency_ms``."""
    name, unit = objective.name, objective.unit
    words = (name.removesuffix(f"_{unit.lower()}") if unit else name).replace("_", " ")
    return words[:1].upper() + words[1:] + (f" ({unit})" if unit else "")


def duration(seconds: float) -> str:
    """Format seconds in the two largest of hours, minutes and seconds."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"
