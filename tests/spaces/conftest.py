import pytest

from protege.spaces import Teacher
from tests.spaces.healed import Flow, flows, plenty
from tests.tiny import ZOO, Case


@pytest.fixture(params=list(ZOO.values()), ids=list(ZOO), scope="session")
def case(request: pytest.FixtureRequest) -> Case:
    """Every model type with every head."""
    found: Case = request.param
    return found


@pytest.fixture(scope="session")
def teacher(case: Case) -> Teacher:
    """Of every case one; tests leave it as it is."""
    return case.teacher()


@pytest.fixture(params=list(flows()), scope="session")
def flow(request: pytest.FixtureRequest) -> Flow:
    """Of every way a residual stream runs a teacher, and what it was calibrated on."""
    teacher = ZOO[request.param].teacher()
    return Flow.of(teacher, plenty(teacher))
