"""The default policies: those that measure best."""

from collections.abc import Mapping
from typing import Any

from protege.spaces.architecture.layer_policies import Greedy
from protege.spaces.architecture.policies import Ends
from protege.spaces.architecture.unit_policies import Magnitude, Surgeon

WITH_DATA: Mapping[str, Any] = {
    "layer_policy": Greedy(),
    "width_policy": Surgeon(),
    "healing": "sequential",
}
"""Defaults with data, the best of ``python -m studies.benchmarks.start``."""

WITHOUT_DATA: Mapping[str, Any] = {
    "layer_policy": Ends(),
    "width_policy": Magnitude(),
    "healing": "none",
}
"""Defaults without data: evenly spaced layers with both ends, units of the largest weights."""
