import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from protege.objectives import Measurement
from protege.objectives.measurement import TrainingRecord
from protege.search import State, Trial
from tests.search.toys import OWN, record

numbers = st.floats(allow_nan=False)
measurements = st.builds(
    Measurement,
    value=numbers,
    spread=numbers,
    samples=st.lists(numbers, max_size=3).map(tuple),
    details=st.dictionaries(st.text(max_size=5), numbers | st.text(max_size=5), max_size=3),
    examples=st.lists(numbers, max_size=3).map(tuple),
)
trainings = st.builds(
    TrainingRecord,
    steps=st.integers(0),
    best_step=st.integers(0),
    learning_rate=numbers,
    losses=st.lists(numbers, max_size=3).map(tuple),
)
trials = st.builds(
    Trial,
    number=st.integers(0),
    key=st.text(max_size=9),
    architecture=st.just(OWN.fields()),
    state=st.sampled_from(State),
    measurements=st.dictionaries(st.text(max_size=5), measurements, max_size=3),
    seconds=st.dictionaries(st.text(max_size=5), numbers, max_size=3),
    reason=st.text(max_size=9),
    predictions=st.dictionaries(st.text(max_size=5), numbers, max_size=2),
    rungs=st.dictionaries(
        st.integers(0, 999),
        st.dictionaries(st.text(max_size=5), numbers, min_size=1, max_size=2),
        min_size=1,
        max_size=3,
    ),
    training=st.none() | trainings,
)


@given(trials)
def test_a_trial_comes_back_from_its_record(trial: Trial) -> None:
    assert Trial.of_record(json.loads(json.dumps(trial.record()))) == trial


@given(trials)
def test_one_that_was_stopped_says_where(trial: Trial) -> None:
    stopped = trial.state is State.STOPPED
    assert trial.stopped_at == (max(trial.rungs) if stopped else None)


def test_a_label_says_depth_width_heads_feed_forward_and_number() -> None:
    trial = record(12, [1.0])
    assert trial.label == "4x24-h6-f40-t12"
    deep = replace(trial, architecture={**trial.architecture, "num_decoder_layers": 2})
    assert deep.label == "4+2x24-h6-f40-t12"
