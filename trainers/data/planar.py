"""Eight distributions over the plane, each with a sampler and its exact density.

The usual toy sets of density estimation, much as in FFJORD (Grathwohl et al. 2019,
arXiv:1810.01367), in about [-4, 4]^2 and with standard deviations of 1 to 2.3. Since the density
is known, so is the least cross-entropy `-mean(log_prob)` that a model can reach: `entropy`. What
it has above that is its Kullback-Leibler divergence.

`checkerboard` is uniform on its squares. The others are mixtures of normals of equal weight. Those
that look like curves have their nodes on the curve, so close together that the mixture can't be
told from noise of standard deviation s around the curve itself: with nodes at a distance h, its
density ripples along the curve by the factor `1 +- 2 exp(-2 (pi s / h)^2)`, here 1e-6 at most.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from trainers.data.random_numbers import generator

_CHUNK = 2048  # Points whose distances to all nodes are in memory together: 30 MB.

# In this file a point is a complex number, x + iy: a rotation is then a product.


class _Checkerboard:
    """Uniform on the 8 squares of side 2 in [-4, 4]^2 whose row and column are alike in parity."""

    def sample(self, rng: np.random.Generator, num: int) -> np.ndarray:
        column, row = rng.integers(4, size=num), rng.integers(2, size=num)
        # Rounded to float32, a point within 1e-7 of the edge could leave its square.
        x, y = rng.uniform(1e-6, 2 - 1e-6, [2, num])
        return x + 2 * column - 4 + 1j * (y + 4 * row + 2 * (column % 2) - 4)

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        x, y = points.real, points.imag
        in_board = (np.minimum(x, y) >= -4) & (np.maximum(x, y) < 4)
        in_square = (x // 2 + y // 2) % 2 == 0
        return np.where(in_board & in_square, -self.entropy(), -np.inf)

    def entropy(self) -> float:
        return math.log(32)


@dataclasses.dataclass(frozen=True, eq=False)
class _Mixture:
    """Normals of equal weight, then at every radius r a rotation by the angle `twist * r`.

    The rotation preserves areas, so that it does not show in the density, and radii, so that its
    inverse is the rotation by `-twist * r`.

    Attributes:
        nodes: the means, complex `[K]`, none of them 0.
        radial: standard deviation in the direction of the node.
        tangential: standard deviation across it; by default the same.
        twist: see above.
    """

    nodes: np.ndarray
    radial: float
    tangential: float | None = None
    twist: float = 0.0

    def sample(self, rng: np.random.Generator, num: int) -> np.ndarray:
        nodes = rng.choice(self.nodes, num)
        radial, tangential = rng.standard_normal([2, num])
        noise = self.radial * radial + 1j * (self.tangential or self.radial) * tangential
        points = nodes + noise * nodes / abs(nodes)
        return points * np.exp(1j * self.twist * abs(points))

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        points = points * np.exp(-1j * self.twist * abs(points))
        chunks = np.array_split(points, len(points) // _CHUNK + 1)
        return np.concatenate([self._mixture_log_prob(chunk) for chunk in chunks])

    def _mixture_log_prob(self, points: np.ndarray) -> np.ndarray:
        tangential = self.tangential or self.radial
        noise = (points[:, np.newaxis] - self.nodes) * (self.nodes / abs(self.nodes)).conj()
        exponents = -0.5 * ((noise.real / self.radial) ** 2 + (noise.imag / tangential) ** 2)
        largest = exponents.max(axis=1)
        mean = np.exp(exponents - largest[:, np.newaxis]).mean(axis=1)
        return largest + np.log(mean) - math.log(2 * math.pi * self.radial * tangential)

    def entropy(self) -> float:
        # The mean over a lattice, which for smooth functions is exact but for terms that decay
        # exponentially with the number of its points in a standard deviation, here 2 or more.
        axis = np.arange(-6, 6, 0.05)
        log_prob = self.log_prob(np.add.outer(1j * axis, axis).ravel())
        return -float(np.exp(log_prob) @ log_prob) * 0.05**2


def _places(num: int) -> np.ndarray:
    """The centres of equal parts of [0, 1], `[num]`."""
    return (np.arange(num) + 0.5) / num


def _circle(num: int) -> np.ndarray:
    """Points at equal distances on the unit circle, `[num]`."""
    return np.exp(2j * math.pi * np.arange(num) / num)


def _two_moons() -> np.ndarray:
    arc = np.exp(1j * math.pi * _places(128))
    return 2 * np.concatenate([arc, 1 + 0.5j - arc]) - 1 - 0.2j


def _spirals() -> np.ndarray:
    angle = 3 * math.pi * np.sqrt(_places(256))
    return np.concatenate([arm * angle / 3 * np.exp(1j * angle) for arm in (1, -1)])


def _swiss_roll() -> np.ndarray:
    angle = 1.5 * math.pi * (1 + 2 * _places(256))
    return angle / 5 * np.exp(1j * angle)


def _cosine() -> np.ndarray:
    x = math.pi * (2 * _places(256) - 1)
    return x + 2.5j * np.cos(2 * x)


_SETS = {
    "checkerboard": _Checkerboard(),
    "two_moons": _Mixture(_two_moons(), 0.2),
    "rings": _Mixture(np.outer([0.75, 1.5, 2.25, 3], _circle(256)).ravel(), 0.1),
    "pinwheel": _Mixture(2 * _circle(5), 0.6, 0.2, twist=0.4),
    "spirals": _Mixture(_spirals(), 0.1),
    "eight_gaussians": _Mixture(8**0.5 * _circle(8), 0.125**0.5),
    "swiss_roll": _Mixture(_swiss_roll(), 0.2),
    "cosine": _Mixture(_cosine(), 0.2),
}
NAMES = tuple(_SETS)


def sample(name: str, num: int, seed: int | Sequence[int]) -> np.ndarray:
    """Returns points `[num, 2]`, `float32`, a function of the arguments alone.

    Args:
        name: one of `NAMES`.
        num: number of points.
        seed: an integer from 0, or several, as in `(seed, step)`.

    Raises:
        ValueError: if `name` is none of `NAMES`.

    Example:
        >>> sample("spirals", 1000, seed=0).shape
        (1000, 2)
    """
    distribution = _find(name)
    points = distribution.sample(generator(NAMES.index(name), seed), num)
    return np.stack([points.real, points.imag], axis=-1).astype(np.float32)


def log_prob(name: str, x: np.ndarray) -> np.ndarray:
    """Returns the log-density in nats `[N]`, `float64`; `-inf` outside the squares of checkerboard.

    Args:
        name: one of `NAMES`.
        x: points `[N, 2]`.

    Raises:
        ValueError: if `name` is none of `NAMES`, or `x` of another shape.
    """
    distribution, x = _find(name), np.asarray(x, np.float64)
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"`x` must be points [N, 2]. Received: x.shape={x.shape}.")
    return distribution.log_prob(x[:, 0] + 1j * x[:, 1])


@functools.cache
def entropy(name: str) -> float:
    """Returns the entropy in nats: for checkerboard `log 32`, for others a sum over a lattice.

    The sum is right to 1e-6, and takes up to a second the first time.

    Args:
        name: one of `NAMES`.

    Raises:
        ValueError: if `name` is none of `NAMES`.

    Example:
        >>> round(entropy("checkerboard"), 4)
        3.4657
    """
    return _find(name).entropy()


def _find(name: str) -> _Checkerboard | _Mixture:
    if name not in _SETS:
        raise ValueError(f"`name` must be one of {', '.join(NAMES)}. Received: name={name!r}.")
    return _SETS[name]
