"""Keep the best rung of a student's training: its weights are what is published and exported."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from protege.objectives.distillation.training import STUDENT, State
from protege.objectives.measurement import Measurement, Rung
from protege.spaces import ProtegeError, Student

BEST = "best."
"""Prefix of the best rung's weights in a stored training state."""


@dataclass
class Best:
    """The rung with the highest value so far, and the student's weights at that rung.

    Training may make a student worse than it was as cut and healed. A trial therefore ends with the
    weights of its best rung, and its published measurement is that rung's. Equal values keep the
    earlier rung.

    Attributes:
        rung: The best rung; None before the first is judged.
        student: The student that was judged at it.
    """

    rung: Rung | None = None
    student: Student | None = None
    _weights: dict[str, Tensor] = field(default_factory=dict, init=False)
    """Copies of the trained parameters; empty while the module still holds them."""

    def see(self, step: int, found: Measurement, student: Student, *, is_last: bool) -> Rung:
        """Compare a measurement with the best so far.

        Args:
            step: Training steps before it.
            found: The measurement.
            student: The student it was made of, as it is now.
            is_last: Whether training ends here.

        Returns:
            The rung, with the measurement that would be published if training ended here.
        """
        if self.rung is None or found.value > self.rung.measurement.value:
            self.rung, self.student, self._weights = Rung(step, found), student, {}
        return Rung(step, found, is_last, _published(self.rung, found))

    def hold(self) -> None:
        """Copy the weights of the best rung if the next training step would change them."""
        if self.student is not None and not self._weights:
            named = self.student.module.named_parameters()
            self._weights = {name: one.detach().clone() for name, one in named}

    def restore(self) -> Student:
        """Return the student with the weights of its best rung."""
        if self.student is None:
            raise ProtegeError("no rung was judged yet: there are no weights to restore")
        if self._weights:
            with torch.no_grad():
                for name, parameter in self.student.module.named_parameters():
                    parameter.copy_(self._weights[name])
            self._weights = {}
        return self.student

    def state(self) -> State:
        """Return the weights to store beside a training state that does not hold them itself.

        The start is not stored: a resumed trial cuts and heals the same student again.
        """
        if self.rung is None or not self.rung.step:
            return {}
        return {f"{BEST}{name}": one for name, one in self._weights.items()}

    def recall(self, rungs: list[Rung], state: Mapping[str, Tensor], student: Student) -> State:
        """Take up the best rung of a training that was cut short.

        Args:
            rungs: The rungs it had passed.
            state: The stored training state, with what `state` returned.
            student: The student as cut and healed.

        Returns:
            The training's own part of the state.
        """
        own = {name: one for name, one in state.items() if not name.startswith(BEST)}
        self.rung = max(rungs, key=lambda rung: rung.measurement.value)
        self.student = student
        kept = {
            name.removeprefix(BEST): one for name, one in state.items() if name.startswith(BEST)
        }
        if self.rung.step and not kept:  # the state was stored at the best rung itself
            kept = {
                name.removeprefix(STUDENT): one
                for name, one in own.items()
                if name.startswith(STUDENT)
            }
        self._weights = kept
        self.hold()
        return own


def _published(best: Rung, now: Measurement) -> Measurement:
    """Return the best rung's measurement, with the losses of the whole training so far."""
    trained = {
        name: now.details[name]
        for name in ("steps", "first_loss", "last_loss", "learning_rate")
        if name in now.details
    }
    details = {**best.measurement.details, **trained, "best_step": best.step}
    return replace(best.measurement, samples=now.samples, details=details)
