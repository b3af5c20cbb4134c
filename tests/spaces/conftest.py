import pytest

from protege.spaces import Teacher
from tests.spaces.healed import Flow, plenty
from tests.zoo import EVERY, FLOWS, marked, teacher_of


@pytest.fixture(params=marked(FLOWS), scope="session")
def teacher(request: pytest.FixtureRequest) -> Teacher:
    """One teacher of each flow; tests leave it as it is."""
    return teacher_of(request.param)


@pytest.fixture(params=EVERY, scope="session")
def any_teacher(request: pytest.FixtureRequest) -> Teacher:
    """Every model type with every head, for what may differ from head to head."""
    return teacher_of(request.param)


@pytest.fixture(scope="session")
def flow(teacher: Teacher) -> Flow:
    """A teacher of each flow with what it was calibrated on."""
    return Flow.of(teacher, plenty(teacher))
