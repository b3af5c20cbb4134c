"""The runtimes that run a model on a processor, with their packages and precisions."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from protege.objectives.machine.precision import Precision, check_precision
from protege.spaces.errors import BadInput

Name = Literal["eager", "compile", "onnxruntime", "openvino", "executorch"]

HALF_PRECISIONS = {
    "bfloat16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "float16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp", "fphp"}),
}
"""Processor features, one of which each half precision needs."""


_ASK = """
import json, sys
from importlib.metadata import distributions
print(json.dumps({one.name: one.version for one in distributions() if one.name in sys.argv}))
"""


@dataclass(frozen=True)
class Runtime:
    """One way to run a model.

    Attributes:
        name: Its name.
        precisions: The precisions that it supports.
        packages: The packages needed where models are exported; PyTorch runs them if empty.
        needed: The modules needed where models are timed.
        python: The interpreter that exports and runs models; the current one if empty.
    """

    name: Name
    precisions: tuple[Precision, ...]
    packages: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    python: str = ""

    @property
    def exports(self) -> bool:
        """Whether models are exported for it."""
        return bool(self.packages)

    @property
    def interpreter(self) -> str:
        """The path of the interpreter that exports and runs models."""
        return self.python or sys.executable

    def versions(self) -> dict[str, str]:
        """Return the installed versions of the packages that a latency depends on."""
        there = installed(self.interpreter)
        names = ("torch", "transformers", *self.packages)
        return {name: there.get(name, "absent") for name in names}

    def missing(self) -> list[str]:
        """Return the packages that are missing where models are exported."""
        there = installed(self.interpreter)
        # another interpreter needs this package to export
        names = (*self.packages, "protege") if self.python else self.packages
        return [name for name in names if name not in there]


_FLOATS: tuple[Precision, ...] = ("float32", "bfloat16", "float16")

_ONNX = ("onnx", "onnxscript", "onnxruntime")

RUNTIMES: dict[str, Runtime] = {
    one.name: one
    for one in (
        Runtime("eager", _FLOATS),
        Runtime("compile", _FLOATS),
        Runtime("onnxruntime", ("float32", "int8"), _ONNX, ("numpy", "onnxruntime")),
        Runtime("openvino", _FLOATS, ("openvino",), ("numpy", "openvino")),
        Runtime("executorch", ("float32",), ("executorch",), ("numpy", "torch", "executorch")),
    )
}


def runtime_named(
    name: str, precision: str = "float32", python: str = "", *, exports: bool = False
) -> Runtime:
    """Return the runtime of that name after checking that it can be used.

    Args:
        name: The runtime's name.
        precision: The precision that it must support.
        python: The interpreter of the runtime's environment; the current one if empty.
        exports: Whether it must be one that models are exported for.

    Raises:
        BadInput: The name is unknown, the runtime is not installed, or the precision is not
            supported.
    """
    runtime = RUNTIMES.get(name)
    if runtime is None:
        raise BadInput(f"runtime={name!r}: expected one of {', '.join(RUNTIMES)}")
    if exports and not runtime.exports:
        able = ", ".join(one.name for one in RUNTIMES.values() if one.exports)
        raise BadInput(f"runtime={name!r} needs protege where it runs: elsewhere, one of {able}")
    check_precision(precision, runtime.precisions, f" on {name}")
    if python and not runtime.exports:
        raise BadInput(f"python={python!r}: {name} runs in this interpreter; leave python empty")
    runtime = replace(runtime, python=python)
    missing, extra = runtime.missing(), name.removesuffix("runtime")
    if missing:
        raise BadInput(
            f"runtime {name!r} needs {', '.join(missing)}, not installed "
            f"{f'for {python}' if python else 'here'}: "
            f'{runtime.interpreter} -m pip install "protege[{extra}]"'
        )
    compilers = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    if name == "compile" and not any(shutil.which(one) for one in compilers if one):
        raise BadInput(
            "runtime 'compile' needs a C++ compiler, not found here (none of $CXX, c++, g++, "
            "clang++): apt-get install g++"
        )
    return runtime


def check_hardware(precision: Precision, features: frozenset[str]) -> None:
    """Check that a processor with some features supports the arithmetic of a precision.

    Raises:
        BadInput: It does not; names the features that would do.
    """
    wanted = HALF_PRECISIONS.get(precision)
    if wanted and not wanted & features:
        raise BadInput(
            f"precision={precision!r}: this processor does not support it (needs one of "
            f"{', '.join(sorted(wanted))}); use float32"
        )


@cache
def processor_features() -> frozenset[str]:
    """Return the processor's feature flags as Linux lists them; empty on other systems."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


@cache
def installed(python: str) -> Mapping[str, str]:
    """Return the versions of all runtimes' packages installed for an interpreter; cached.

    Raises:
        BadInput: The interpreter does not answer.
    """
    packages = {package for one in RUNTIMES.values() for package in one.packages}
    names = sorted({"torch", "transformers", "protege", *packages})
    # a process even for the current interpreter, to see packages installed since it started
    command = [python, "-P", "-c", _ASK, *names]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if asked.returncode < 0:  # killed, which says nothing of the interpreter
            asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        asked.check_returncode()
        found: dict[str, str] = json.loads(asked.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise BadInput(
            f"python={python!r} does not answer ({type(error).__name__}): expected the path of an "
            "interpreter, of Python 3.11 or newer"
        ) from error
    return found
