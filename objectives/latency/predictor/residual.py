"""A Gaussian process on the log residuals of the linear latency model.

scikit-learn's `GaussianProcessRegressor` lacks the signal variance in closed form and leave-one-out
weights, so it would replace little of this module, at 50 MB of packages.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular
from scipy.spatial.distance import cdist

Values = npt.NDArray[np.float64]

LENGTHS = np.geomspace(1.0, 8.0, 4)
"""Candidate length scales, in standard deviations of the points.

Shorter ones are left out: from few samples they cannot be distinguished from noise.
"""

NOISES = np.geomspace(1e-3, 1e3, 13)
"""Candidate noise variances, relative to the signal variance; the last leaves no signal."""

MOST = 60
"""Maximum samples for choosing the hyperparameters, whose cost is cubic in the samples."""

_LEAST = 1e-18
"""A variance below rounding errors."""


@dataclass(frozen=True)
class ResidualGP:
    """A Gaussian process with a squared-exponential kernel.

    Attributes:
        length: Length scale, in standard deviations of the points.
        noise: Noise variance, relative to the signal variance.
    """

    length: float
    noise: float

    @classmethod
    def likeliest(cls, points: Values, residuals: Values) -> "ResidualGP":
        """Choose the hyperparameters on a grid by marginal likelihood; ties go to the smoothest.

        The signal variance is optimal in closed form. Above `MOST` samples, an evenly spaced
        subset is used.

        Args:
            points: ``(samples, axes)``.
            residuals: ``(samples,)``.
        """
        grid = [cls(float(length), float(noise)) for length in LENGTHS for noise in NOISES]
        some = slice(None, None, 1 + (len(points) - 1) // MOST)
        asked, left = points[some], residuals[some]
        return max(reversed(grid), key=lambda one: one.likelihood(asked, left))

    def likelihood(self, points: Values, residuals: Values) -> float:
        """Return twice the log marginal likelihood of the residuals, up to a constant.

        Rasmussen and Williams (2006), equation 5.8.
        """
        root = self._root(points)
        white = solve_triangular(root, residuals, lower=True)
        variance = max(float(white @ white) / len(white), _LEAST)
        return float(-len(white) * np.log(variance) - 2 * np.log(np.diag(root)).sum())

    def after(self, points: Values, residuals: Values, asked: Values) -> tuple[float, float]:
        """Return the mean and the standard error of a new residual at a point.

        Rasmussen and Williams (2006), algorithm 2.1.

        Args:
            points: ``(samples, axes)``.
            residuals: ``(samples,)``.
            asked: ``(axes,)``.
        """
        means, errors = self.after_all(points, residuals, asked[None])
        return float(means[0]), float(errors[0])

    def after_all(self, points: Values, residuals: Values, asked: Values) -> tuple[Values, Values]:
        """Return the means and the standard errors of `after` at several points.

        Args:
            points: ``(samples, axes)``.
            residuals: ``(samples,)``.
            asked: ``(asked, axes)``.

        Returns:
            Each ``(asked,)``.
        """
        root = self._root(points)
        white = solve_triangular(root, residuals, lower=True)
        across = solve_triangular(root, _alike(points, asked, self.length), lower=True)
        variance = float(white @ white) / len(white)
        unknown = np.maximum(1 + self.noise - (across**2).sum(axis=0), 0.0)
        means: Values = across.T @ white
        errors: Values = np.sqrt(variance * unknown)
        return means, errors

    def by_others(self, points: Values) -> Values:
        """Return the weights that give each sample's leave-one-out mean from the other residuals.

        Rasmussen and Williams (2006), equation 5.12.

        Args:
            points: ``(samples, axes)``.

        Returns:
            ``(samples, samples)``, with a zero diagonal.
        """
        half = solve_triangular(self._root(points), np.eye(len(points)), lower=True)
        inverse = half.T @ half
        weights: Values = -inverse / np.diag(inverse)[:, None]
        np.fill_diagonal(weights, 0.0)
        return weights

    def _root(self, points: Values) -> Values:
        alike = _alike(points, points, self.length)
        root = np.linalg.cholesky(alike + self.noise * np.eye(len(points)))
        return np.asarray(root, dtype=np.float64)


def _alike(points: Values, others: Values, length: float) -> Values:
    """Return the squared-exponential kernel between points and others.

    Distances are in standard deviations of the points; constant axes are ignored.
    """
    deviation = points.std(axis=0)
    scale = np.where(deviation > 1e-9, deviation, np.inf) * length
    alike: Values = np.exp(-cdist(points / scale, others / scale, "sqeuclidean") / 2)
    return alike
