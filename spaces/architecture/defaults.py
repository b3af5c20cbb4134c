"""The policies of a search that names none: what measures best."""

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
"""Best on data, by ``python -m studies.benchmarks.start``: layers go greedily, units by what the
others cannot make up for, and students are healed on their own inputs."""

WITHOUT_DATA: Mapping[str, Any] = {
    "layer_policy": Ends(),
    "width_policy": Magnitude(),
    "healing": "none",
}
"""Both ends kept evenly, and the units of the largest weights."""
