"""The multivariate normal family."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float, Key
from jaxsteer.families._family import family
from jaxsteer.families._normal import LOG_2PI
from jaxsteer.linalg import (
    cholesky,
    cholesky_inverse,
    expm1_minus,
    logdet_from_cholesky,
    matmul,
    transpose,
)
from jaxsteer.maps import AffineMap, gaussian_transport


@family(domain={"mean": "real", "cov": "covariance"}, maps="affine")
@dataclasses.dataclass(frozen=True)
class MultivariateNormal:
    """Multivariate normal distributions ``N(mean, cov)``.

    Attributes:
        mean: ``[..., d]``; leading axes are a batch.
        cov: ``[..., d, d]`` symmetric positive definite.

    Example:
        >>> import jax.numpy as jnp
        >>> p = MultivariateNormal(jnp.ones(2), jnp.eye(2))
        >>> p.kl(MultivariateNormal(jnp.zeros(2), jnp.eye(2))).item()
        1.0
    """

    mean: Float[Array, "... d"]
    cov: Float[Array, "... d d"]

    @classmethod
    def from_moments(
        cls, mean: Float[Array, "... d"], cov: Float[Array, "... d d"]
    ) -> MultivariateNormal:
        """Return the member with these moments (the maximum-likelihood fit)."""
        return cls(mean, cov)

    def kl(self, other: MultivariateNormal) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_multivariate_normal`."""
        return kl_multivariate_normal(self, other)

    def log_prob(self, x: Float[Array, "... d"]) -> Float[Array, "..."]:
        """Log-density at points ``[..., d]``; NaN if a covariance is singular."""
        # The inverse factor, not a solve: many points then share one factorization, and
        # derivatives are products.
        factor, inverse = cholesky_inverse(self.cov)
        batch = jnp.broadcast_shapes(x.shape, self.mean.shape)
        away = jnp.broadcast_to(x, batch) - jnp.broadcast_to(self.mean, batch)
        z = matmul(inverse, away[..., None])[..., 0]
        quadratic = jnp.sum(z * z, -1)
        return -0.5 * (quadratic + x.shape[-1] * LOG_2PI + logdet_from_cholesky(factor))

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` vectors."""
        factor = cholesky(self.cov)
        batch = jnp.broadcast_shapes(self.mean.shape, self.cov.shape[:-1])
        noise = jax.random.normal(key, shape + batch, factor.dtype)
        return self.mean + matmul(factor, noise[..., None])[..., 0]

    def pushforward(self, move: AffineMap) -> MultivariateNormal:
        """Law of ``move(x)``; the batches of both broadcast."""
        mean = matmul(move.weight, self.mean[..., None])[..., 0] + move.bias
        cov = matmul(matmul(move.weight, self.cov), transpose(move.weight))
        return MultivariateNormal(mean, cov)

    def transport_to(self, other: MultivariateNormal) -> AffineMap:
        """Optimal-transport map from this law onto `other`'s."""
        return gaussian_transport(self.mean, self.cov, other.mean, other.cov)


def check_same_space(p_mean: Array, q_mean: Array) -> None:
    """Raise unless two laws have the same number of features."""
    d, other = jnp.shape(p_mean)[-1], jnp.shape(q_mean)[-1]
    if d != other:
        raise ValueError(
            f"p has {d} features, q has {other}; a KL divergence needs the same space."
        )


def kl_multivariate_normal(
    p: MultivariateNormal, q: MultivariateNormal
) -> Float[Array, "..."]:
    """``KL(p || q)`` of multivariate normals, in nats.

    ``(tr(Q^-1 P) - d + m' Q^-1 m + logdet Q - logdet P) / 2`` with covariances ``P``,
    ``Q`` and ``m = p.mean - q.mean``. With Cholesky factors and ``A = L_Q^-1 L_P`` it
    is a sum of non-negative terms, so nothing cancels: ``exp(a) - 1 - a`` at ``a = 2
    log A_jj``, the squares below the diagonal of ``A``, and ``|L_Q^-1 m|^2``.

    Args:
        p: Distributions with batch ``[...]`` in ``d`` dimensions.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences; NaN where a covariance is not positive definite. Cost
        O(d^3), differentiable.

    Raises:
        ValueError: If the dimensions differ.
    """
    check_same_space(p.mean, q.mean)
    # With inverse factors all derivatives are products: none factorizes again.
    factor_p, _ = cholesky_inverse(p.cov)
    _, inverse_q = cholesky_inverse(q.cov)
    ratio = matmul(inverse_q, factor_p)
    batch = jnp.broadcast_shapes(p.mean.shape, q.mean.shape)
    difference = jnp.broadcast_to(p.mean, batch) - jnp.broadcast_to(q.mean, batch)
    shift = matmul(inverse_q, difference[..., None])[..., 0]
    diagonal = jnp.diagonal(ratio, axis1=-2, axis2=-1)
    below = jnp.tril(ratio, -1)
    return 0.5 * (
        jnp.sum(expm1_minus(2 * jnp.log(diagonal)), -1)
        + jnp.sum(below * below, (-2, -1))
        + jnp.sum(shift * shift, -1)
    )
