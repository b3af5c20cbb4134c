"""A Gaussian process on what a law leaves unexplained.

scikit-learn's `GaussianProcessRegressor` is not used: it has neither the function's variance in
closed form nor leave-one-out weights, so that little of this would go, for 50 MB of packages.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular
from scipy.spatial.distance import cdist

Values = npt.NDArray[np.float64]

LENGTHS = np.geomspace(1.0, 8.0, 4)
"""Distances over which residuals may be alike, in standard deviations of the points.

None is shorter: a few samples cannot tell a law that wriggles from noise.
"""

NOISES = np.geomspace(1e-3, 1e3, 13)
"""Variances of the noise that may be, in variances of the function; the last leaves no function."""

MOST = 60
"""Samples that two numbers are chosen by; the time it takes grows with their third power."""

_LEAST = 1e-18
"""A variance below what rounding makes."""


@dataclass(frozen=True)
class Process:
    """Which of these processes: both by the largest marginal likelihood, on a grid.

    Attributes:
        length: How far residuals are alike, in standard deviations of the points.
        noise: Variance of the noise, in variances of the function.
    """

    length: float
    noise: float

    @classmethod
    def likeliest(cls, points: Values, residuals: Values) -> "Process":
        """The process that makes the residuals most probable, of equals the smoothest.

        The function's variance has its best value at each, in closed form. Of more samples than
        `MOST` every so manyth is asked.

        Args:
            points: ``(samples, axes)``.
            residuals: ``(samples,)``.
        """
        grid = [cls(float(length), float(noise)) for length in LENGTHS for noise in NOISES]
        some = slice(None, None, 1 + (len(points) - 1) // MOST)
        asked, left = points[some], residuals[some]
        return max(reversed(grid), key=lambda one: one.likelihood(asked, left))

    def likelihood(self, points: Values, residuals: Values) -> float:
        """Twice the logarithm of the residuals' probability, but for a constant.

        Rasmussen and Williams (2006), equation 5.8.
        """
        root = self._root(points)
        white = solve_triangular(root, residuals, lower=True)
        variance = max(float(white @ white) / len(white), _LEAST)
        return float(-len(white) * np.log(variance) - 2 * np.log(np.diag(root)).sum())

    def after(self, points: Values, residuals: Values, asked: Values) -> tuple[float, float]:
        """Mean and standard error of the residual to be seen at a point.

        Rasmussen and Williams (2006), algorithm 2.1.

        Args:
            points: ``(samples, axes)``.
            residuals: ``(samples,)``.
            asked: ``(axes,)``.
        """
        root = self._root(points)
        white = solve_triangular(root, residuals, lower=True)
        across = solve_triangular(root, _alike(points, asked[None], self.length), lower=True)[:, 0]
        variance = float(white @ white) / len(white)
        unknown = max(1 + self.noise - float(across @ across), 0.0)
        return float(across @ white), (variance * unknown) ** 0.5

    def by_others(self, points: Values) -> Values:
        """Weights with which the others' residuals make the mean at each sample's own point.

        Rasmussen and Williams (2006), equation 5.12.

        Args:
            points: ``(samples, axes)``.

        Returns:
            ``(samples, samples)``, nothing on the diagonal.
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
    """How alike residuals are at the points and at others: 1 at one place, 0 far apart.

    Distances are in standard deviations of the points; an axis that they do not differ in has none.
    """
    deviation = points.std(axis=0)
    scale = np.where(deviation > 1e-9, deviation, np.inf) * length
    alike: Values = np.exp(-cdist(points / scale, others / scale, "sqeuclidean") / 2)
    return alike
