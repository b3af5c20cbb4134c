"""What can run a model on a processor, and what each of them needs."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from protege.spaces.errors import BadInput

Name = Literal["eager", "compile", "onnxruntime", "openvino", "executorch"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]

HALF_PRECISIONS = {
    "bfloat16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "float16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp", "fphp"}),
}
"""What the processor must list among its features to calculate in them."""


@dataclass(frozen=True)
class Runtime:
    """One way to run a model.

    Attributes:
        name: As it is asked for.
        packages: What must be installed where models are exported.
        extra: Installs those with protege.
        precisions: What it can calculate in.
        exports: Whether a model is exported for it; else PyTorch runs it as it is.
        needed: What must be installed where models are timed.
    """

    name: Name
    packages: tuple[str, ...]
    extra: str
    precisions: tuple[Precision, ...]
    exports: bool = True
    needed: tuple[str, ...] = ()

    def versions(self) -> dict[str, str]:
        """The installed versions of everything that a time on this runtime depends on."""
        return {name: _installed(name) for name in ("torch", "transformers", *self.packages)}


RUNTIMES: dict[str, Runtime] = {
    one.name: one
    for one in (
        Runtime("eager", (), "", ("float32", "bfloat16", "float16"), exports=False),
        Runtime("compile", (), "", ("float32", "bfloat16", "float16"), exports=False),
        Runtime(
            "onnxruntime",
            ("onnx", "onnxscript", "onnxruntime"),
            "onnx",
            ("float32", "int8"),
            needed=("numpy", "onnxruntime"),
        ),
        Runtime(
            "openvino",
            ("openvino",),
            "openvino",
            ("float32", "bfloat16", "float16"),
            needed=("numpy", "openvino"),
        ),
        Runtime(
            "executorch",
            ("executorch",),
            "executorch",
            ("float32",),
            needed=("numpy", "torch", "executorch"),
        ),
    )
}


def runtime_named(name: str, precision: str = "float32") -> Runtime:
    """The runtime of that name, which is installed here and calculates in that precision.

    Raises:
        BadInput: There is none, it is not installed, or it has no such precision.
    """
    runtime = RUNTIMES.get(name)
    if runtime is None:
        raise BadInput(f"runtime={name!r}: expected one of {', '.join(RUNTIMES)}")
    if precision not in runtime.precisions:
        raise BadInput(
            f"precision={precision!r} on {name}: expected one of {', '.join(runtime.precisions)}"
        )
    missing = [package for package in runtime.packages if find_spec(package) is None]
    if missing:
        raise BadInput(
            f"runtime {name!r} needs {', '.join(missing)}, not installed here: "
            f'pip install "protege[{runtime.extra}]"'
        )
    return runtime


def check_hardware(precision: Precision) -> None:
    """Refuse a precision that this machine's processor has no arithmetic for.

    Raises:
        BadInput: Names the features that would do.
    """
    wanted = HALF_PRECISIONS.get(precision)
    if wanted and not wanted & processor_features():
        raise BadInput(
            f"precision={precision!r}: this processor has no arithmetic for it (one of "
            f"{', '.join(sorted(wanted))} would do); use float32"
        )


@cache
def processor_features() -> frozenset[str]:
    """What the processor says that it can do, as Linux lists it; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    listed = (
        line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))
    )
    return frozenset(next(listed, []))


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


PRECISIONS: tuple[str, ...] = get_args(Precision)
