"""Compare the runtimes of this machine's processor: speed, and the order of students on each."""

from collections.abc import Iterator

from scipy.stats import kendalltau

from protege.objectives.latency import LocalCPU, Plan, Target, Workload
from protege.objectives.latency.timing.comparison import timed
from studies.benchmarks.encoders import NEAR_TIES, REFERENCE, Encoder
from studies.benchmarks.figures import Figure

WORKLOAD = Workload(batch_size=1, prompt_tokens=64)
ROUNDS = 5
FAR = Encoder(2, 384, 1536), Encoder(6, 192, 768), Encoder(12, 128, 512)
"""Shallow and wide, and deep and narrow: they differ in the overhead per layer."""


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the speed-ups over eager, then the rank correlations of students with eager."""
    targets: dict[str, Target] = {
        "onnxruntime": LocalCPU(runtime="onnxruntime"),
        "onnxruntime int8": LocalCPU(runtime="onnxruntime", precision="int8"),
        "openvino": LocalCPU(runtime="openvino"),
    }
    eager: Target = LocalCPU()
    speedups: dict[str, list[float]] = {name: [] for name in targets}
    for _ in range(1 if quick else ROUNDS):
        # alternating, so that noise slows all targets alike
        own_ms = _alone_ms(eager)
        for name, target in targets.items():
            speedups[name].append(own_ms / _alone_ms(target))
    for name, values in speedups.items():
        yield Figure.of(f"{name} over eager", values, "", f"above 1; {REFERENCE}, {WORKLOAD}")
    encoders = (*FAR, *NEAR_TIES[: 0 if quick else 5])
    on_eager = {one: _ratio(one, eager) for one in encoders}
    for name in ("onnxruntime", "openvino"):
        there = {one: _ratio(one, targets[name]) for one in encoders}
        yield from _order(name, on_eager, there)


def _order(
    name: str, on_eager: dict[Encoder, float], there: dict[Encoder, float]
) -> Iterator[Figure]:
    relative = {one: on_eager[one] / there[one] for one in on_eager}
    dearest = max(relative, key=lambda one: relative[one])
    tau = float(kendalltau([*on_eager.values()], [*there.values()]).statistic)
    yield Figure(f"order on {name} against eager", tau, tau, tau, "", "Kendall's tau")
    value = relative[dearest]
    what = f"eager over {name}, relative to {REFERENCE}"
    yield Figure(f"{dearest} looks slower in eager than on {name}", value, value, value, "", what)


def _alone_ms(target: Target) -> float:
    return timed((REFERENCE.blueprint,), WORKLOAD, target, Plan()).reference_ms()


def _ratio(one: Encoder, target: Target) -> float:
    return timed((REFERENCE.blueprint, one.blueprint), WORKLOAD, target, Plan()).ratio()
