"""The best rung of a student's training, whose weights are published and exported."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from protege.objectives.distillation.training import STUDENT, State
from protege.objectives.measurement import Measurement, Rung
from protege.spaces import ProtegeError, Student

BEST = "best."
"""Prefix of the best rung's weights in a saved training state."""


@dataclass
class Best:
    """The rung with the highest value so far, and the student's weights at that rung.

    Training can make a student worse than the untrained one. A trial therefore ends with the
    weights and the measurement of its best rung. Of equal values the earlier rung is kept.

    Attributes:
        rung: The best rung; None before the first rung is scored.
        student: The student that was scored at it.
    """

    rung: Rung | None = None
    student: Student | None = None
    _weights: dict[str, Tensor] = field(default_factory=dict, init=False)
    """Copies of the parameters; empty while the module itself still has these values."""

    def see(self, step: int, found: Measurement, student: Student, *, is_last: bool) -> Rung:
        """Compare a measurement with the best so far.

        Args:
            step: Training steps done.
            found: The measurement.
            student: The measured student.
            is_last: Whether training ends here.

        Returns:
            The rung, with the measurement to publish if training ends here.
        """
        if self.rung is None or found.value > self.rung.measurement.value:
            self.rung, self.student, self._weights = Rung(step, found), student, {}
        return Rung(step, found, is_last, _published(self.rung, found))

    def hold(self) -> None:
        """Copy the best rung's weights before the next training step changes them."""
        if self.student is not None and not self._weights:
            named = self.student.module.named_parameters()
            self._weights = {name: one.detach().clone() for name, one in named}

    def restore(self) -> Student:
        """Restore the best rung's weights and return the student.

        Raises:
            ProtegeError: No rung was scored yet.
        """
        if self.student is None:
            raise ProtegeError("no rung was scored yet: there are no weights to restore")
        if self._weights:
            with torch.no_grad():
                for name, parameter in self.student.module.named_parameters():
                    parameter.copy_(self._weights[name])
            self._weights = {}
        return self.student

    def state(self) -> State:
        """Return the best rung's weights, to be saved with the training state.

        The dictionary is empty if the best rung is the untrained student, which a resumed trial
        builds again, or the current state.
        """
        if self.rung is None or not self.rung.step:
            return {}
        return {f"{BEST}{name}": one for name, one in self._weights.items()}

    def recall(self, rungs: list[Rung], state: Mapping[str, Tensor], student: Student) -> State:
        """Load the best rung of an interrupted training.

        Args:
            rungs: The rungs passed so far.
            state: The saved training state, with the tensors that `state` returned.
            student: The untrained student.

        Returns:
            The state without the best rung's weights.
        """
        own = {name: one for name, one in state.items() if not name.startswith(BEST)}
        self.rung = max(rungs, key=lambda rung: rung.measurement.value)
        self.student = student
        kept = {
            name.removeprefix(BEST): one for name, one in state.items() if name.startswith(BEST)
        }
        if self.rung.step and not kept:  # the state was saved at the best rung
            kept = {
                name.removeprefix(STUDENT): one
                for name, one in own.items()
                if name.startswith(STUDENT)
            }
        self._weights = kept
        self.hold()
        return own


def _published(best: Rung, now: Measurement) -> Measurement:
    """Return the best rung's measurement with the loss figures of the whole training."""
    trained = {
        name: now.details[name]
        for name in ("steps", "first_loss", "last_loss", "learning_rate")
        if name in now.details
    }
    details = {**best.measurement.details, **trained, "best_step": best.step}
    return replace(best.measurement, samples=now.samples, details=details)
