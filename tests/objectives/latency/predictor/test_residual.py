import numpy as np
import pytest
from scipy.stats import multivariate_normal

from protege.objectives.latency.predictor.residual import LENGTHS, MOST, NOISES, ResidualGP

RANDOM = np.random.default_rng(0)
POINTS = RANDOM.standard_normal((12, 3))
WAVES = np.sin(POINTS[:, 0])


def covariance(process: ResidualGP) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Of residuals at `POINTS`, written out entry by entry."""
    scaled = POINTS / POINTS.std(axis=0)
    entries = [
        [np.exp(-((a - b) ** 2).sum() / (2 * process.length**2)) for b in scaled] for a in scaled
    ]
    return np.array(entries) + process.noise * np.eye(len(POINTS))


@pytest.mark.parametrize("process", [ResidualGP(1.0, 0.1), ResidualGP(4.0, 1.0)])
def test_the_likelihood_is_that_of_the_normal_distribution(process: ResidualGP) -> None:
    alike = covariance(process)
    variance = WAVES @ np.linalg.inv(alike) @ WAVES / len(WAVES)
    density = multivariate_normal(np.zeros(12), variance * alike, allow_singular=True).logpdf(WAVES)
    constant = -12 * (np.log(2 * np.pi) + 1)
    assert process.likelihood(POINTS, WAVES) + constant == pytest.approx(2 * density)


def test_the_likeliest_of_the_grid_is_chosen() -> None:
    chosen = ResidualGP.likeliest(POINTS, WAVES)
    likelihoods = [
        ResidualGP(float(length), float(noise)).likelihood(POINTS, WAVES)
        for length in LENGTHS
        for noise in NOISES
    ]
    assert chosen.likelihood(POINTS, WAVES) == max(likelihoods)


def test_what_is_smooth_is_learned_and_what_is_noise_is_not() -> None:
    asked = RANDOM.standard_normal((20, 3)) / 2
    smooth = ResidualGP.likeliest(POINTS, WAVES)
    found = [smooth.after(POINTS, WAVES, one)[0] for one in asked]
    assert np.abs(found - np.sin(asked[:, 0])).mean() < 0.2
    nothing = ResidualGP(1.0, float(NOISES[-1]))
    noise = RANDOM.standard_normal(12)
    assert max(abs(nothing.after(POINTS, noise, one)[0]) for one in asked) < 0.1


def test_without_a_residual_there_is_no_correction_and_no_doubt() -> None:
    nothing = np.zeros(12)
    assert ResidualGP.likeliest(POINTS, nothing).after(POINTS, nothing, POINTS[0]) == (0.0, 0.0)


def test_doubt_grows_away_from_the_points() -> None:
    process = ResidualGP(1.0, 0.1)
    near, far = (process.after(POINTS, WAVES, at)[1] for at in (POINTS[0], POINTS[0] + 10))
    assert near < far


def test_one_place_asked_twice_is_no_trouble() -> None:
    same = np.ones((4, 3))
    mean, error = ResidualGP(1.0, 1e-3).after(same, np.array([0.1, 0.2, 0.1, 0.2]), same[0])
    assert mean == pytest.approx(0.15, abs=1e-3)
    assert error > 0


def test_the_others_say_what_a_process_of_the_others_says() -> None:
    process = ResidualGP(2.0, 0.3)
    # scaled beforehand, so that the scale is the same without a point
    points = POINTS / POINTS.std(axis=0)
    means = process.by_others(points) @ WAVES
    alike = covariance(process)
    for at in range(12):
        rest = np.arange(12) != at
        expected = alike[at, rest] @ np.linalg.inv(alike[np.ix_(rest, rest)]) @ WAVES[rest]
        assert means[at] == pytest.approx(expected)


def test_many_samples_choose_as_a_part_of_them_does() -> None:
    points = RANDOM.standard_normal((3 * MOST, 2))
    left = np.sin(points[:, 0])
    assert ResidualGP.likeliest(points, left) == ResidualGP.likeliest(points[::3], left[::3])
