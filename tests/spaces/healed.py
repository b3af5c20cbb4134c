"""Students to heal: plenty of their teachers' inputs, ratios by axis, and how far off they are."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from protege.spaces import (
    Architecture,
    Calibration,
    Infeasible,
    Student,
    Teacher,
    Uniform,
    Wanda,
)
from protege.spaces.architecture.policies import Healing, WidthPolicy
from protege.spaces.architecture.sizes import RATIOS
from protege.spaces.calibration.plan import HEALED, CalibrationPlan
from protege.spaces.residual.directions import Basis
from protege.spaces.residual.states import ResidualStates, real_rows, run_through
from tests.tiny import SPECIAL, VOCABULARY

AXES: dict[str, tuple[str, ...]] = {
    "ffn": ("intermediate",),
    "heads": ("heads",),
    "kv_heads": ("kv_heads",),
    "experts": ("experts",),
    "expert_ffn": ("moe_intermediate",),
    "depth": ("layers", "decoder_layers"),
    "hidden": ("hidden",),
    "all": tuple(ratio for ratio in RATIOS if ratio != "vocab"),
}
"""What is halved along each axis."""


@dataclass(frozen=True, eq=False)
class Flow:
    """A teacher with what it is calibrated on."""

    teacher: Teacher
    batch: dict[str, Tensor]
    calibration: Calibration

    @classmethod
    def of(cls, teacher: Teacher, batch: dict[str, Tensor]) -> "Flow":
        plan = CalibrationPlan(moments=HEALED)  # no ladder, no order of neurons: they take long
        calibration = Calibration.measured(teacher, [batch], plan)
        return cls(teacher, batch, calibration.with_streams(teacher, batch))

    @property
    def streams(self) -> ResidualStates:
        assert self.calibration.streams is not None
        return self.calibration.streams

    def student(self, architecture: Architecture) -> Student:
        return self.teacher.student(architecture, self.calibration)


def plenty(
    teacher: Teacher, *, rows: int = 48, tokens: int = 32, side: str = "right", seed: int = 3
) -> dict[str, Tensor]:
    """A batch of what the teacher reads, padded on one side, the first row too."""
    generator = torch.Generator().manual_seed(seed)
    config, name = teacher.config, type(teacher.model).__name__
    if teacher.model.main_input_name == "pixel_values":
        return {"pixel_values": torch.randn(2 * rows, 3, 12, 12, generator=generator)}

    def texts(length: int) -> dict[str, Tensor]:
        ids = torch.randint(len(SPECIAL), VOCABULARY, (rows, length), generator=generator)
        lengths = torch.randint(length // 2, length, (rows, 1), generator=generator)
        mask = torch.arange(length) < lengths
        mask = mask.flip(1) if side == "left" else mask
        return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long()}

    written = {f"decoder_{key}": value for key, value in texts(20).items()}
    if teacher.model.main_input_name == "input_features":
        return {"input_features": torch.randn(rows, 6, 16, generator=generator), **written}
    found = texts(tokens)
    if not config.is_encoder_decoder or "TokenClassification" in name:
        return found
    if name.endswith(("SequenceClassification", "QuestionAnswering")):
        # these shift what they read into their decoder by themselves, and look for the text's end
        last = found["attention_mask"].sum(1) - 1
        found["input_ids"][torch.arange(rows), last] = config.eos_token_id
        return found
    return found | written


def halved_along(
    teacher: Teacher, axis: str, healing: Healing, width_policy: WidthPolicy | None = None
) -> Architecture | None:
    """The architecture with half of what there is along an axis; none where there is nothing."""
    own = teacher.architecture
    there = [
        ratio
        for ratio in AXES[axis]
        if getattr(own, RATIOS[ratio]) and RATIOS[ratio] in teacher.family.knobs
    ]
    ratios: dict[str, Any] = dict.fromkeys(there, 0.5)
    policy = width_policy or Wanda()
    try:
        found = own.scaled(
            multiple_of=4,
            layer_policy=Uniform(),
            width_policy=policy,
            healing=healing,
            **ratios,
        )
    except Infeasible:
        return None
    return None if found.sizes() == own.sizes() else found


def off(flow: Flow, student: Student) -> float:
    """How far the student's last state is from the teacher's: of each token by its own energy."""
    streams, layout = flow.streams, flow.teacher.layout
    last = streams.wiring.norms[-1]
    place = next(slot for slot in layout.slots if slot.name == f"{last}.weight")
    name = last
    if place.layer is not None and place.number_at != (0, 0):
        name = place.named(len(student.kept.layers(place.stack)) - 1).removesuffix(".weight")
    given = passed(student.model, streams, [name])[name][0]
    wanted = basis_of(flow, student).project(streams.states[last])
    errors = (given - wanted).square().sum(1) / wanted.square().sum(1)
    return float(errors.mean())


def basis_of(flow: Flow, student: Student) -> Basis:
    """The student's channels in terms of the teacher's."""
    if student.kept.turned:
        return flow.streams.directions.basis(len(student.kept.hidden))
    return Basis(flow.teacher.architecture.hidden_size, student.kept.hidden)


def passed(
    model: Any, streams: ResidualStates, names: list[str]
) -> dict[str, tuple[Tensor, Tensor]]:
    """What real tokens gave to modules and got from them, the first time each ran."""
    modules, found = dict(model.named_modules()), dict[str, tuple[Tensor, Tensor]]()

    def listen(name: str) -> Any:
        inside = name in streams.wiring.in_decoder

        def hook(_module: nn.Module, given: tuple[Tensor, ...], gave: Tensor) -> None:
            both = [real_rows(x, streams.batch, in_decoder=inside) for x in (given[0], gave)]
            found.setdefault(name, (both[0].clone(), both[1].clone()))

        return modules[name].register_forward_hook(hook)

    with ExitStack() as stack, torch.inference_mode():
        for name in names:
            stack.callback(listen(name).remove)
        run_through(model, streams.wiring, streams.batch)
    return found


def tensors_of(student: Student) -> dict[str, Tensor]:
    """All that it has learnt, the layer behind its pooling too."""
    projection = student.embedder.projection if student.embedder is not None else None
    more = {} if projection is None else projection.state_dict(prefix="projection.")
    return {**student.model.state_dict(), **more}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether all tensors are the same, to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
