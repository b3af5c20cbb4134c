"""A model of latency against laws that are known."""

from dataclasses import replace
from math import exp
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from protege.objectives import Workload
from protege.objectives.latency.predictor.model import STEPS, LatencyModel, LatencySample, recorded
from protege.objectives.latency.predictor.terms import Call
from protege.spaces import Architecture, BadInput, Magnitude, Task
from tests.objectives.latency.laws import CALL, encoder, law_ms, lawful, students
from tests.search.toys import OWN
from tests.tiny import ZOO

architectures = st.builds(
    encoder,
    st.integers(1, 24),
    st.integers(1, 16).map(lambda heads: 32 * heads),
    st.integers(8, 4096),
)
samples = st.lists(
    st.builds(LatencySample, architectures, st.floats(0.01, 1000.0)), min_size=1, max_size=20
)


def learned(count: int = 15, seed: int = 0, noise: float = 0.0) -> LatencyModel:
    return LatencyModel.fit(lawful(count, seed, noise), CALL)


def test_a_law_that_is_such_a_sum_is_recovered() -> None:
    model = learned()
    for one in students(20, seed=9):
        value, error = model.predict(one)
        assert value == pytest.approx(law_ms(one), rel=1e-6)
        assert error < 1e-6 * value


def test_a_law_with_noise_is_predicted_for_students_that_were_not_measured() -> None:
    off, taus = [], []
    for seed in range(10):
        everyone = lawful(25, seed, noise=0.02)
        model = LatencyModel.fit(everyone[:15], CALL)
        asked = [one.architecture for one in everyone[15:]]
        true = np.array([law_ms(one) for one in asked])
        predicted = np.array([model.predict(one)[0] for one in asked])
        off.append(np.abs(predicted / true - 1).mean())
        taus.append(kendalltau(predicted, true).statistic)
    assert np.mean(off) < 0.02
    assert np.median(off) <= 0.015
    assert sum(one <= 0.03 for one in off) >= 9
    assert min(taus) >= 0.9


def test_what_no_sum_explains_is_corrected_along_the_widths() -> None:
    # narrow layers that run at half the speed: nothing that four terms can say
    def odd_ms(one: Architecture) -> float:
        return law_ms(one) * (1 + 0.4 / (1 + exp((one.hidden_size - 300) / 20)))

    drawn = students(60, seed=3)
    model = LatencyModel.fit([LatencySample(one, odd_ms(one)) for one in drawn[:40]], CALL)
    sum_alone = replace(model, process=replace(model.process, noise=1e9))

    def off(one: LatencyModel) -> float:
        return float(np.mean([abs(one.predict(a)[0] / odd_ms(a) - 1) for a in drawn[40:]]))

    assert off(model) < 0.6 * off(sum_alone)


@given(samples, architectures)
def test_a_deeper_student_is_never_predicted_to_be_faster(
    measured: list[LatencySample], one: Architecture
) -> None:
    model = LatencyModel.fit(measured, CALL)
    depths = [replace(one, num_hidden_layers=layers) for layers in (1, 2, 7, 30)]
    values = [model.predict(deep)[0] for deep in depths]
    assert values == sorted(values)
    assert values[0] > 0


@given(samples, architectures)
def test_no_size_is_ever_said_to_save_time(
    measured: list[LatencySample], one: Architecture
) -> None:
    assert all(cost > 0 for cost in LatencyModel.fit(measured, CALL).one_more(one).values())


@given(samples, st.randoms(use_true_random=False))
def test_the_order_of_the_samples_changes_nothing(
    measured: list[LatencySample], random: Random
) -> None:
    shuffled = random.sample(measured, len(measured))
    assert LatencyModel.fit(shuffled, CALL) == LatencyModel.fit(measured, CALL)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.01, 100.0))
def test_another_unit_is_the_same_model_in_that_unit(seed: int, unit: float) -> None:
    measured = lawful(15, seed, noise=0.02)
    scaled = [LatencySample(one, value * unit) for one, value in measured]
    asked = students(1, seed + 1)[0]
    one, other = (LatencyModel.fit(given, CALL).predict(asked)[0] for given in (measured, scaled))
    assert other == pytest.approx(one * unit, rel=1e-3)


def test_an_error_left_out_is_that_of_a_model_of_the_others() -> None:
    measured = lawful(15, noise=0.05)
    model = LatencyModel.fit(measured, CALL)
    sum_alone = replace(model, process=replace(model.process, noise=1e9))
    for at, error in enumerate(sum_alone.leave_one_out()):
        left_out, others = model.samples[at], model.samples[:at] + model.samples[at + 1 :]
        value, _ = replace(sum_alone, samples=others).predict(left_out.architecture)
        assert error == pytest.approx(value / left_out.value - 1, abs=1e-6)


def test_errors_left_out_tell_how_noisy_the_measurements_are() -> None:
    off = np.abs(learned(40, noise=0.03).leave_one_out())
    assert 0.015 < off.mean() < 0.045
    assert np.abs(learned(40).leave_one_out()).max() < 1e-6


def test_the_standard_error_is_about_what_predictions_are_off() -> None:
    model = learned(40, noise=0.03)
    shares = [error / value for value, error in map(model.predict, students(30, seed=5))]
    assert 0.015 < np.mean(shares) < 0.06


def test_one_more_of_each_size_costs_what_the_law_says() -> None:
    model, own = learned(), encoder(6, 384, 1536)
    more = model.one_more(own)
    assert set(more) == {"num_hidden_layers", "hidden_size", "intermediate_size"}
    for size, cost in more.items():
        grown = replace(own, **{size: getattr(own, size) + STEPS[size]})
        assert cost == pytest.approx(law_ms(grown) - law_ms(own), rel=1e-6)


def test_one_more_is_told_of_what_a_family_can_have_less_of() -> None:
    own = ZOO["llama-causal-grouped"].teacher().architecture
    call = Call(Workload(prompt_tokens=8, new_tokens=4), Task.GENERATION)
    drawn = [
        replace(own, num_hidden_layers=layers, hidden_size=hidden, intermediate_size=ffn)
        for layers, hidden, ffn in [(1, 8, 40), (4, 24, 16), (2, 16, 24), (3, 8, 8), (2, 24, 40)]
    ]
    paid = [LatencySample(one, float(call.terms(one) @ [1, 1, 1e-3, 1e-3, 1e-3])) for one in drawn]
    more = LatencyModel.fit(paid, call).one_more(own)
    heads = {"num_attention_heads", "num_key_value_heads"}
    sizes = {"num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size"}
    assert set(more) == sizes | heads


def test_students_of_one_set_of_sizes_are_one_sample() -> None:
    one = encoder(2, 64, 128)
    other = replace(one, width_policy=Magnitude(), healing="one-shot")
    model = LatencyModel.fit([LatencySample(one, 1.0), LatencySample(other, 3.0)], CALL)
    assert model.samples == (LatencySample(one, 2.0),)
    assert model.knows(other)
    assert not model.knows(replace(one, num_hidden_layers=3))


def test_an_architecture_comes_back_from_its_record_but_for_its_policies() -> None:
    own = replace(OWN, width_policy=Magnitude(), healing="one-shot")
    assert recorded(own.fields()) == OWN
    image = replace(OWN, vocab_size=0)
    assert recorded(image.fields()) == image


def test_nothing_is_learned_from_nothing() -> None:
    with pytest.raises(BadInput, match="no latency was measured; expected one sample or more"):
        LatencyModel.fit([], CALL)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_latency_is_a_positive_number(value: float) -> None:
    with pytest.raises(BadInput, match=rf"latency {value} of .*: expected a positive number"):
        LatencyModel.fit([LatencySample(OWN, value)], CALL)


def test_a_single_sample_has_no_others() -> None:
    with pytest.raises(BadInput, match="one sample has no others to be predicted from"):
        learned(1).leave_one_out()
