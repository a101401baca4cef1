"""The Dirichlet family on the simplex."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_finite, is_concrete
from jaxsteer._types import Array, ArrayLike, Float, Key
from jaxsteer.families._family import family
from jaxsteer.families._support import as_floating, normalized_weights
from jaxsteer.linalg import (
    HALF_LOG_2PI,
    entropy_remainder,
    expm1_minus,
    gamma_excess,
    log_minus_digamma,
    log_quotient,
    stirling_remainder,
)


@family(domain={"concentration": "positive"}, maps="identity", vectors=True)
@dataclasses.dataclass(frozen=True)
class Dirichlet:
    """Dirichlet distributions of shares, of density ~ ``prod x_i^(concentration_i - 1)``.

    Attributes:
        concentration: ``[..., m]``, positive; leading axes are a batch.

    Example:
        >>> import jax.numpy as jnp
        >>> Dirichlet(jnp.array([1.0, 1.0, 2.0])).mean.tolist()
        [0.25, 0.25, 0.5]
    """

    concentration: Float[Array, "... m"]

    @classmethod
    def from_samples(
        cls,
        x: Float[ArrayLike, "... n m"],
        weights: Float[ArrayLike, "... n"] | None = None,
    ) -> Dirichlet:
        """Maximum likelihood over rows ``[..., n, m]``; see :func:`fit_dirichlet`.

        Raises:
            ValueError: If there are no rows of at least two shares, the weights do not
                fit, or concrete rows are not positive shares that sum to 1.
        """
        if jnp.ndim(x) < 2 or jnp.shape(x)[-2] == 0 or jnp.shape(x)[-1] < 2:
            raise ValueError(
                f"x must hold rows [..., n, m] of m >= 2 shares, got {jnp.shape(x)}."
            )
        check_finite("x", x)
        x = as_floating(x)
        if is_concrete(x):
            values = np.asarray(x)
            if (values <= 0).any() or not np.all(_sums_to_one(x)):
                raise ValueError(
                    "x must hold positive shares that sum to 1 in every row, got a "
                    f"minimum of {values.min()} and sums from {values.sum(-1).min()} "
                    f"to {values.sum(-1).max()}."
                )
        return cls(fit_dirichlet(x, normalized_weights(x[..., 0], weights)))

    @property
    def mean(self) -> Float[Array, "... m"]:
        """Means, ``[..., m]``."""
        return self.concentration / jnp.sum(self.concentration, -1, keepdims=True)

    @property
    def cov(self) -> Float[Array, "... m m"]:
        """Covariance matrices, ``[..., m, m]``, of rank ``m - 1``."""
        mean, total = self.mean, jnp.sum(self.concentration, -1)
        diagonal = mean[..., None] * jnp.eye(mean.shape[-1], dtype=mean.dtype)
        spread = diagonal - mean[..., None] * mean[..., None, :]
        return spread / (1 + total)[..., None, None]

    def kl(self, other: Dirichlet) -> Float[Array, "..."]:
        """``KL(self || other)`` in nats; see :func:`kl_dirichlet`."""
        return kl_dirichlet(self, other)

    def log_prob(self, x: Float[Array, "... m"]) -> Float[Array, "..."]:
        """Log-density at shares ``[..., m]``; ``-inf`` off the open simplex.

        The density is that of all shares but one. Shares may miss the sum 1 by the
        square root of the precision.
        """
        x = as_floating(x, self.concentration)
        inside = jnp.all(x > 0, -1) & _sums_to_one(x)
        x_in = jnp.where(inside[..., None], x, 1 / x.shape[-1])
        missing = jnp.where(jnp.any(jnp.isnan(x), -1), jnp.nan, -jnp.inf)
        return jnp.where(inside, log_density(self.concentration, x_in), missing)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Array:
        """Draw ``shape + batch`` vectors of shares."""
        concentration = as_floating(self.concentration)
        sizes = (*shape, *concentration.shape[:-1])
        return jax.random.dirichlet(key, concentration, sizes, concentration.dtype)


def _sums_to_one(x: Array) -> Array:
    return jnp.abs(jnp.sum(x, -1) - 1) <= jnp.finfo(x.dtype).eps ** 0.5


def log_density(concentration: Array, x: Array) -> Array:
    """Log-density of shares inside the simplex, by its saddle point."""

    def width(a: Array) -> Array:
        # lgamma(a) - a log a + a, which is small beside its parts.
        return HALF_LOG_2PI - 0.5 * jnp.log(a) + stirling_remainder(a)

    total = jnp.sum(concentration, -1, keepdims=True)
    # The remainders hold for shares that sum to 1 to the last digit.
    excess = total[..., 0] * (jnp.sum(x, -1) - 1)
    apart = jnp.sum(entropy_remainder(concentration, total * x), -1) - excess
    constant = width(total)[..., 0] - jnp.sum(width(concentration), -1)
    return constant - apart - jnp.sum(jnp.log(x), -1)


def fit_dirichlet(
    x: Float[Array, "... n m"], weights: Float[Array, "... n"]
) -> Float[Array, "... m"]:
    """Concentrations of maximum likelihood.

    ``digamma(sum a) - digamma(a_i) + mean(log x_i) = 0`` by 30 Newton steps (each at
    most to a third or to three times where it was), from the moments. The Hessian is
    diagonal plus rank one: O(m) a step.

    Args:
        x: ``[..., n, m]`` rows of positive shares.
        weights: ``[..., n]`` weights that sum to 1.

    Returns:
        ``[..., m]``; infinite where all rows are equal.

    References:
        Minka 2000, "Estimating a Dirichlet distribution", equations 11-17.
    """
    mean = jnp.sum(weights[..., None] * x, -2)
    logs = log_quotient(x, mean[..., None, :])
    # log mean - mean log of each share, as a sum of terms that are not negative.
    gap = jnp.sum(weights[..., None] * expm1_minus(logs), -2)
    spread = jnp.sum(weights[..., None] * jnp.square(x - mean[..., None, :]), -2)
    total = jnp.sum(mean * (1 - mean), -1) / jnp.sum(spread, -1) - 1
    start = mean * jnp.maximum(total, 0.1)[..., None]

    def step(_: int, a: Array) -> Array:
        total = jnp.sum(a, -1, keepdims=True)
        both = jnp.concatenate([a, total], -1)
        values, slopes = jax.jvp(log_minus_digamma, (both,), (jnp.ones_like(both),))
        trigamma = 1 / both - slopes
        gradient = values[..., :-1] - values[..., -1:]
        gradient = gradient - log_quotient(a, total * mean) - gap
        inverse = 1 / trigamma[..., :-1]
        shared = jnp.sum(gradient * inverse, -1, keepdims=True) / (
            1 / trigamma[..., -1:] - jnp.sum(inverse, -1, keepdims=True)
        )
        return jnp.clip(a + (gradient + shared) * inverse, a / 3, a * 3)

    return jax.lax.fori_loop(0, 30, step, start)


def kl_dirichlet(p: Dirichlet, q: Dirichlet) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats: a part of the means and one of the concentrations.

    ``s KL(q.mean || p.mean) + sum_i B(a_i, b_i) - B(sum a, sum b)`` with ``a, b`` the
    concentrations of `p` and `q`, ``s = sum b``, the divergence of the means as
    discrete laws (the other way round), and ``B`` the remainder of Taylor's first order
    of ``lgamma(x) - x log x + x``. Zero with zero gradient at ``p = q``; nearly equal
    concentrations keep their digits, however large they are.

    Args:
        p: Distributions with batch ``[...]`` over ``m`` shares.
        q: Distributions with a batch that broadcasts against it.

    Returns:
        ``[...]`` divergences, non-negative.

    Raises:
        ValueError: If the numbers of shares differ.
    """
    if p.concentration.shape[-1] != q.concentration.shape[-1]:
        raise ValueError(
            "p and q must have the same number of shares, got "
            f"{p.concentration.shape[-1]} and {q.concentration.shape[-1]}."
        )
    return kl_shares(p.concentration, q.concentration)


def kl_shares(a: Array, b: Array) -> Array:
    """:func:`kl_dirichlet` of the bare concentrations."""
    a, b = jnp.broadcast_arrays(a, b)
    total_a, total_b = (jnp.sum(v, -1, keepdims=True) for v in (a, b))
    # The rounding of the totals would swamp a small difference.
    step = jnp.sum(b - a, -1, keepdims=True)
    log_means = log_quotient(a, b) - log_quotient(total_a, total_b, -step)
    means = jnp.sum(entropy_remainder(b / total_b, a / total_a, log_means), -1)
    # One call for the shares and for their total.
    with_total = ((a, total_a), (b, total_b), (b - a, step))
    excess = gamma_excess(*(jnp.concatenate(pair, -1) for pair in with_total))
    apart = jnp.sum(excess[..., :-1], -1) - excess[..., -1]
    return jnp.maximum(total_b[..., 0] * means + apart, 0.0)
