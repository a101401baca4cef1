"""The normal family with a low-rank-plus-diagonal covariance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float, Key
from jaxsteer.families._family import family
from jaxsteer.families._multivariate_normal import MultivariateNormal, check_same_space
from jaxsteer.families._normal import LOG_2PI
from jaxsteer.families._principal import (
    principal_factor_of_cov,
    principal_factor_of_root,
)
from jaxsteer.linalg import (
    cholesky_inverse,
    expm1_minus,
    log_quotient,
    logdet_from_cholesky,
    matmul,
    transpose,
)
from jaxsteer.maps import AffineMap, DiagonalMap, gaussian_transport

# The least variance left on the diagonal, relative to the mean variance: a sample that
# the factor explains entirely must not end as a singular law.
FLOOR = 1e-6


class _Scaled(NamedTuple):
    """The law in units of its diagonal, where the covariance is ``I + V V'``."""

    deviation: Array
    factor: Array
    root: Array
    inverse_root: Array


@family(
    domain={"mean": "real", "factor": "real", "diagonal": "positive"},
    maps="affine",
)
@dataclasses.dataclass(frozen=True)
class LowRankNormal:
    """Normal distributions ``N(mean, diag(diagonal) + factor factor')``.

    Nothing but :attr:`cov` and what is built on it forms a ``d x d`` matrix. Two
    factors that differ by a rotation of their columns mean the same law.

    Attributes:
        mean: ``[..., d]``; leading axes are a batch.
        factor: ``[..., d, r]``, any rank; good for ``r`` far below ``d``.
        diagonal: ``[..., d]`` variances beside the factor, positive.

    Example:
        >>> import jax.numpy as jnp
        >>> p = LowRankNormal(jnp.zeros(3), jnp.ones((3, 1)), jnp.ones(3))
        >>> p.cov[0].tolist()
        [2.0, 1.0, 1.0]
        >>> p.precision_times(p.covariance_times(jnp.ones((3, 1))))[:, 0].tolist()
        [1.0, 1.0, 1.0]
    """

    mean: Float[Array, "... d"]
    factor: Float[Array, "... d r"]
    diagonal: Float[Array, "... d"]

    @classmethod
    def from_moments(
        cls, mean: Float[Array, "... d"], cov: Float[Array, "... d d"], *, rank: int
    ) -> LowRankNormal:
        """Keep the mean, the variances and the `rank` leading directions.

        The factor is that of probabilistic principal components, ``V (L - s I)^{1/2}``
        with the leading eigenvectors ``V``, their eigenvalues ``L`` and the mean ``s``
        of the other eigenvalues. The diagonal is what each column's variance then
        lacks, one step of factor analysis; its mean is ``s``, and ``s`` in every column
        would be the maximum-likelihood fit of probabilistic principal components.

        Args:
            mean: ``[..., d]``.
            cov: ``[..., d, d]``, positive semi-definite.
            rank: Number of directions, 1 to ``d - 1``.

        Returns:
            The member; its diagonal is at least 1e-6 times the mean variance. Cost
            O(d^3). Differentiable wherever the last direction
            kept and the first one left out differ in variance, for what depends on the
            covariance (a factor's own rotation has no meaning); second derivatives need
            distinct eigenvalues.

        Raises:
            ValueError: If `rank` is out of range.

        References:
            Tipping and Bishop 1999, equations 7 and 8 (factor and ``s``); Rubin and
            Thayer 1982, the update of the diagonal.
        """
        _check_rank(rank, cov.shape[-1], cov.shape[-1] - 1)
        factor = _of_each(cov, rank, principal_factor_of_cov)
        return cls.complete(mean, factor, jnp.diagonal(cov, axis1=-2, axis2=-1))

    @classmethod
    def from_root(
        cls, mean: Float[Array, "... d"], root: Float[Array, "... m d"], *, rank: int
    ) -> LowRankNormal:
        """:meth:`from_moments` for the covariance ``root' root``, not formed for m < d.

        Args:
            mean: ``[..., d]``.
            root: ``[..., m, d]``, such as the centered rows of a sample over ``m^0.5``.
            rank: Number of directions, 1 to ``d - 1`` and at most ``m``.

        Returns:
            The member. Cost O(m d min(m, d)), by the smaller Gram matrix.

        Raises:
            ValueError: If `rank` is out of range.
        """
        m, d = root.shape[-2:]
        _check_rank(rank, d, min(m, d - 1))
        factor = _of_each(root, rank, principal_factor_of_root)
        return cls.complete(mean, factor, jnp.sum(root * root, -2))

    @classmethod
    def complete(cls, mean: Array, factor: Array, variances: Array) -> LowRankNormal:
        """The member whose diagonal is what the factor leaves of the variances."""
        left = variances - jnp.sum(factor * factor, -1)
        floor = FLOOR * jnp.mean(variances, -1, keepdims=True)
        return cls(mean, factor, jnp.maximum(left, floor))

    @property
    def cov(self) -> Float[Array, "... d d"]:
        """Covariance matrices, ``[..., d, d]``."""
        identity = jnp.eye(self.diagonal.shape[-1], dtype=self.diagonal.dtype)
        across = matmul(self.factor, transpose(self.factor))
        return across + self.diagonal[..., None] * identity

    def to_dense(self) -> MultivariateNormal:
        """The same distributions with full covariance matrices."""
        return MultivariateNormal(self.mean, self.cov)

    def covariance_times(self, x: Float[Array, "... d m"]) -> Float[Array, "... d m"]:
        """``cov @ x`` for columns ``[..., d, m]``, in O(d r m); batches broadcast."""
        across = matmul(self.factor, _inner(self.factor, x))
        return self.diagonal[..., None] * x + across

    def precision_times(self, x: Float[Array, "... d m"]) -> Float[Array, "... d m"]:
        """``cov^-1 @ x`` for columns ``[..., d, m]``; batches broadcast.

        Woodbury's identity with an ``r x r`` Cholesky factor: O(d r (r + m)).
        """
        own = self._scaled()
        x = x / own.deviation[..., None]
        inner = _hidden(own, x)
        return (x - matmul(own.factor, inner)) / own.deviation[..., None]

    @property
    def precision_factor(self) -> Float[Array, "... d r"]:
        """``f`` with ``cov^-1 = diag(1 / diagonal) - f f'``, in O(d r^2)."""
        own = self._scaled()
        turned = matmul(own.factor, transpose(own.inverse_root))
        return turned / own.deviation[..., None]

    def kl(self, other: LowRankNormal | MultivariateNormal) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_low_rank_normal`.

        Another normal family is compared through full covariances, in O(d^3).
        """
        if isinstance(other, LowRankNormal):
            return kl_low_rank_normal(self, other)
        return self.to_dense().kl(other)

    def log_prob(self, x: Float[Array, "... d"]) -> Float[Array, "..."]:
        """Log-density at points ``[..., d]``, in O(d r^2)."""
        own = self._scaled()
        z = ((x - self.mean) / own.deviation)[..., None]
        hidden = _hidden(own, z)
        quadratic = _ridge(own.factor, hidden, z)
        logdet = jnp.sum(jnp.log(self.diagonal), -1)
        logdet = logdet + logdet_from_cholesky(own.root)
        return -0.5 * (quadratic + x.shape[-1] * LOG_2PI + logdet)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` vectors."""
        d, r = self.factor.shape[-2:]
        batch = shape + self._batch()
        common, own = jax.random.split(key)
        common = jax.random.normal(common, (*batch, r, 1), self.factor.dtype)
        own = jax.random.normal(own, (*batch, d), self.factor.dtype)
        along = matmul(self.factor, common)[..., 0]
        return self.mean + along + jnp.sqrt(self.diagonal) * own

    def pushforward(
        self, move: AffineMap | DiagonalMap
    ) -> LowRankNormal | MultivariateNormal:
        """Law of ``move(x)``: low-rank for a diagonal map, else a full normal.

        The batches of both broadcast.
        """
        if not isinstance(move, DiagonalMap):
            return self.to_dense().pushforward(move)
        factor = move.scale[..., None] * self.factor
        return LowRankNormal(
            move(self.mean), factor, jnp.square(move.scale) * self.diagonal
        )

    def transport_to(self, other: LowRankNormal | MultivariateNormal) -> AffineMap:
        """Optimal-transport map from this law onto `other`'s, full: O(d^3)."""
        return gaussian_transport(self.mean, self.cov, other.mean, other.cov)

    def _batch(self) -> tuple[int, ...]:
        shapes = self.mean.shape[:-1], self.factor.shape[:-2], self.diagonal.shape[:-1]
        return jnp.broadcast_shapes(*shapes)

    def _scaled(self) -> _Scaled:
        deviation = jnp.sqrt(self.diagonal)
        factor = self.factor / deviation[..., None]
        return _Scaled(deviation, factor, *cholesky_inverse(_gram(factor)))


def _check_rank(rank: int, d: int, largest: int) -> None:
    if not 1 <= rank <= largest:
        raise ValueError(
            f"rank={rank} is out of range for {d} features; give 1 to {largest}."
        )


def _of_each(a: Array, rank: int, factor_of: Callable[..., Array]) -> Array:
    """A function of one matrix, of each of a batch."""
    if a.ndim == 2:
        return factor_of(a, rank)
    flat = jax.vmap(lambda one: factor_of(one, rank))(a.reshape(-1, *a.shape[-2:]))
    return flat.reshape(*a.shape[:-2], a.shape[-1], rank)


def _gram(factor: Array) -> Array:
    """``I + V' V``, the covariance of the hidden coordinates given x, inverted."""
    return jnp.eye(factor.shape[-1], dtype=factor.dtype) + _inner(factor, factor)


def _inner(a: Array, b: Array) -> Array:
    return matmul(transpose(a), b)


def _hidden(own: _Scaled, x: Array) -> Array:
    """``(I + V' V)^-1 V' x``, the hidden coordinates' mean given x."""
    whitened = matmul(own.inverse_root, _inner(own.factor, x))
    return matmul(transpose(own.inverse_root), whitened)


def _ridge(factor: Array, hidden: Array, x: Array) -> Array:
    """``tr x' (I + V V')^-1 x = |x - V h|^2 + |h|^2`` at the best ``h``, its minimum.

    A sum of squares, where Woodbury's difference would cancel along the factor.
    """
    rest = x - matmul(factor, hidden)
    return jnp.sum(rest * rest, (-2, -1)) + jnp.sum(hidden * hidden, (-2, -1))


def _widen(factor: Array, rank: int) -> Array:
    missing = rank - factor.shape[-1]
    return jnp.pad(factor, [(0, 0)] * (factor.ndim - 1) + [(0, missing)])


def kl_low_rank_normal(p: LowRankNormal, q: LowRankNormal) -> Float[Array, "..."]:
    """``KL(p || q)`` of low-rank-plus-diagonal normals, in nats.

    Let ``z`` be the hidden coordinates, ``x = mean + factor z + noise``. By the chain
    rule the divergence is that of ``(x, z)``, which is free of matrices, less that of
    ``z`` given ``x``, which is ``r x r``. With the unit ``diag(q.diagonal)^{1/2}``,
    factors ``U`` and ``V``, ``Z = U - V``, ``E`` the ratio of diagonals, ``G_p = I + U'
    E^-1 U``, ``G_q = I + V' V``, ``S = G^-1`` and ``y`` the difference of the means,

    ``2 KL = sum(e - 1 - log e) + tr [Z y]' (I + V V')^-1 [Z y] - 2 KL(S_p || S_q) + 2 tr
    V'Z (S_q - S_p) - |G_q^{1/2} (S_q - S_p)|^2 - |G_q^{1/2} (S_p U' E^{-1/2} - S_q V'
    E^{1/2})|^2``.

    Every term is of second order in the difference of the laws, so nearly equal laws
    keep their digits in float32, whatever the signal-to-noise ratio, if their factors
    are near too (a rotation of the columns alone leaves rounding of the size of
    ``|V|^2``).

    Args:
        p: Distributions with batch ``[...]`` in ``d`` dimensions, any rank.
        q: Distributions with a batch that broadcasts against it; its rank may differ.

    Returns:
        ``[...]`` divergences, non-negative, 0 with zero gradient at ``p = q``; not
        finite where a diagonal is not positive. Cost O(d r^2), one ``r x r`` Cholesky
        factorization each. Differentiable.

    Raises:
        ValueError: If the dimensions differ.

    References:
        The chain rule of relative entropy, Cover and Thomas 2006, theorem 2.5.3; the
        terms are derived here.

    Example:
        >>> import jax.numpy as jnp
        >>> q = LowRankNormal(jnp.zeros(3), jnp.ones((3, 1)), jnp.ones(3))
        >>> p = LowRankNormal(jnp.ones(3), jnp.ones((3, 1)), jnp.ones(3))
        >>> round(kl_low_rank_normal(p, q).item(), 6)  # 1' (I + 1 1')^-1 1 / 2
        0.375
    """
    check_same_space(p.mean, q.mean)
    rank = max(p.factor.shape[-1], q.factor.shape[-1])
    deviation = jnp.sqrt(q.diagonal)[..., None]
    log_ratio = log_quotient(p.diagonal, q.diagonal)[..., None]
    root = jnp.exp(0.5 * log_ratio)
    u, v = (_widen(law.factor, rank) / deviation for law in (p, q))
    y = (p.mean - q.mean)[..., None] / deviation
    z, w = u - v, u / root

    # Inverses of triangles at least 1.
    root_p, inverse_p = cholesky_inverse(_gram(w))
    root_q, inverse_q = cholesky_inverse(_gram(v))

    # G_p - G_q, whose rounding is relative to the difference of the laws.
    change = _inner(u, jnp.expm1(-log_ratio) * u) + _inner(z, z)
    change = change + _inner(z, v) + _inner(v, z)
    inner = matmul(inverse_p, matmul(change, transpose(inverse_q)))
    hidden = matmul(transpose(inverse_p), matmul(inner, inverse_q))  # S_q - S_p

    batch = jnp.broadcast_shapes(z.shape[:-2], y.shape[:-2])
    shift = [jnp.broadcast_to(a, batch + a.shape[-2:]) for a in (z, y)]
    shift = jnp.concatenate(shift, -1)
    best = matmul(inverse_q, _inner(v, shift))
    seen = _ridge(v, matmul(transpose(inverse_q), best), shift)

    diagonals = (jnp.diagonal(f, axis1=-2, axis2=-1) for f in (root_q, root_p))
    below = jnp.tril(matmul(inverse_p, root_q - root_p), -1)
    posterior = jnp.sum(expm1_minus(2 * log_quotient(*diagonals)), -1)
    posterior = posterior + jnp.sum(below * below, (-2, -1))

    turned = matmul(transpose(root_q), hidden)
    gain = (z - jnp.expm1(log_ratio) * v) / root
    gain = matmul(inverse_q, transpose(gain)) - matmul(turned, transpose(w))
    total = (
        jnp.sum(expm1_minus(log_ratio), (-2, -1))
        + seen
        - posterior
        + 2 * jnp.sum(_inner(z, v) * hidden, (-2, -1))
        - jnp.sum(turned * turned, (-2, -1))
        - jnp.sum(gain * gain, (-2, -1))
    )
    # Rounding may leave a divergence near 0 below it; the slope is right as it is.
    return 0.5 * (total + jax.lax.stop_gradient(jnp.maximum(-total, 0.0)))
