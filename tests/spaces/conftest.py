import pytest

from protege.spaces import Teacher
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
