"""Leading directions of large covariances from a few products, with a bound."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_key
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float
from jaxsteer.families import LowRankNormal
from jaxsteer.linalg import eigh, matmul, qr, symmetrize, transpose
from jaxsteer.moments._state import MomentState
from jaxsteer.population import Population


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sketch:
    """A population of low rank, and what its directions may have missed.

    Attributes:
        population: The population, with :class:`LowRankNormal` cells ``[K, G]``.
        missed: ``[K, G]`` bounds in units of variance: no direction at right angles to
            all that were looked at has a larger variance, and the leading variances are
            too small by at most this. Each holds with probability ``1 - 10^-probes``.
        captured: ``[K, G]`` share of the total variance in the directions kept.
    """

    population: Population
    missed: Float[Array, "K G"]
    captured: Float[Array, "K G"]


def finish_low_rank(
    state: MomentState,
    *,
    rank: int,
    key: Array,
    oversampling: int = 10,
    power_iterations: int = 2,
    probes: int = 4,
) -> Sketch:
    """Fit low-rank normal cells without decomposing a ``d x d`` matrix.

    A randomized range finder: random directions times the covariance, orthonormalized,
    ``power_iterations`` times over, span the leading directions nearly; the covariance
    seen in them is small, and is decomposed. The factor and the diagonal are then those
    of :meth:`LowRankNormal.from_moments`.

    Args:
        state: Moments with ``scatter="cell"``.
        rank: Number of directions ``r``.
        key: Of the random directions.
        oversampling: Directions looked at beyond `rank`.
        power_iterations: More of them tell slowly falling variances apart, and make
            the bound nearer to what is missed.
        probes: Random directions that the bound is from.

    Returns:
        The population and the bounds. For each cell O(d^2 (r + oversampling)) times
        ``power_iterations + 2``, and no factorization but of matrices with
        ``r + oversampling`` columns.

    Raises:
        ValueError: If the state has another scatter, or a number is out of range.

    References:
        Halko, Martinsson and Tropp 2011, "Finding structure with randomness",
        algorithm 4.4 (the basis) and lemma 4.1 (the bound, of a power).
    """
    d = state.mean.shape[1]
    if state.scatter != "cell":
        raise ValueError(
            f"The state has scatter={state.scatter!r}; accumulate with scatter='cell'."
        )
    least = {"rank": 1, "oversampling": 0, "power_iterations": 0, "probes": 1}
    given = (rank, oversampling, power_iterations, probes)
    for (name, low), value in zip(least.items(), given, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"{name}={value!r} must be a whole number.")
        if value < low and name != "rank":
            raise ValueError(f"{name}={value} must be at least {low}.")
    if not 1 <= rank < d:
        raise ValueError(f"rank={rank} must be at least 1 and less than d={d}.")
    check_key(key)
    return _sketched(state, key, rank, oversampling, power_iterations, probes)


@partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _sketched(
    state: MomentState,
    key: Array,
    rank: int,
    oversampling: int,
    power_iterations: int,
    probes: int,
):
    d = state.mean.shape[1]
    size = min(rank + oversampling, d)

    def one(cell: tuple[Array, Array]):
        cov, key = cell
        draw, check = jax.random.split(key)
        basis = range_finder(cov, draw, size, power_iterations)
        missed = missed_variance(cov, basis, check, probes, power_iterations)
        values, vectors = eigh(symmetrize(matmul(transpose(basis), matmul(cov, basis))))
        values, lead = values[::-1][:rank], vectors[:, ::-1][:, :rank]
        total = jnp.trace(cov)
        rest = jnp.maximum(total - jnp.sum(values), 0.0) / (d - rank)
        lengths = jnp.sqrt(jnp.maximum(values - rest, 0.0))
        share = jnp.sum(values) / jnp.where(total > 0, total, 1.0)
        return matmul(basis, lead) * lengths, missed, share

    keys = jax.random.split(key, len(state.cov))
    # One cell at a time: memory for one.
    factor, missed, share = jax.lax.map(one, (state.cov, keys))
    variances = jnp.diagonal(state.cov, axis1=-2, axis2=-1)
    law = LowRankNormal.complete(state.mean, factor, variances)
    cells = (state.n_classes, state.n_groups)

    def by_cell(leaf: Array):
        return leaf.reshape(cells + leaf.shape[1:])

    priors = by_cell(state.mass / jnp.sum(state.mass))
    population = Population(priors, jax.tree.map(by_cell, law))
    return Sketch(
        population=population, missed=by_cell(missed), captured=by_cell(share)
    )


def range_finder(
    a: Float[Array, "d d"], key: Array, size: int, power_iterations: int
) -> Float[Array, "d m"]:
    """An orthonormal basis near the leading ``m`` directions of a symmetric matrix."""
    seen = matmul(a, jax.random.normal(key, (a.shape[0], size), a.dtype))
    basis, _ = qr(seen)
    for _ in range(power_iterations):
        basis, _ = qr(matmul(a, basis))
    return basis


def missed_variance(
    a: Float[Array, "d d"],
    basis: Float[Array, "d m"],
    key: Array,
    probes: int,
    power_iterations: int,
) -> Float[Array, ""]:
    """A bound on ``||(I - Q Q') a||_2``, wrong with probability ``10^-probes``.

    The bound is ``10 (2 / pi)^0.5 max_i |B w_i|`` for normal ``w_i``, of ``(B B')^q B``
    in place of ``B``: the root of that is nearer to the truth, whose power it is.
    """

    def outside(x: Array):
        return x - matmul(basis, matmul(transpose(basis), x))

    seen = jax.random.normal(key, (a.shape[0], probes), a.dtype)
    seen, size = outside(matmul(a, seen)), jnp.zeros((), a.dtype)
    for _ in range(power_iterations):
        # Powers leave the range of float32.
        unit = jnp.max(jnp.linalg.norm(seen, axis=0))
        seen = seen / jnp.where(unit > 0, unit, 1.0)
        size = size + jnp.log(unit)
        seen = outside(matmul(a, matmul(a, outside(seen))))
    size = size + jnp.log(jnp.max(jnp.linalg.norm(seen, axis=0)))
    size = size + float(np.log(10 * np.sqrt(2 / np.pi)))
    return jnp.exp(size / (2 * power_iterations + 1))
