"""Divergences of pairs without a closed form."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxsteer._types import Array, Float, Key


class Estimate(NamedTuple):
    """An estimate by simulation.

    Attributes:
        value: ``[...]`` the estimate.
        standard_error: ``[...]`` its standard error.
    """

    value: Float[Array, "..."]
    standard_error: Float[Array, "..."]


def kl_divergence_mc(
    p: Any, q: Any, key: Key[Array, ""], n_samples: int = 10_000
) -> Estimate:
    """``KL(p || q)`` in nats by simulation, for any two families on one space.

    The mean of ``log p(x) - log q(x)`` over samples of `p`: unbiased, may be negative
    where the divergence is small. Infinite where a sample falls off the support of `q`;
    with a small probability of that it may be missed.

    Args:
        p: Distributions with ``sample`` and ``log_prob``, batch ``[...]``.
        q: Distributions with ``log_prob``, the same batch.
        key: A random key; the same key gives the same estimate.
        n_samples: Samples, at least 2. Cost and memory O(n_samples) for each member.

    Returns:
        The estimate and its standard error, which is ``sqrt(variance / n_samples)``.

    Raises:
        ValueError: If `n_samples` is below 2.

    Example:
        >>> import jax
        >>> from jaxsteer.families import Laplace, Normal
        >>> found = kl_divergence_mc(Normal(0.0, 1.0), Laplace(0.0, 1.0), jax.random.key(0))
        >>> abs(float(found.value) - 0.0721) < 4 * float(found.standard_error)
        True
    """
    if not isinstance(n_samples, int) or n_samples < 2:
        raise ValueError(f"n_samples={n_samples!r} must be a whole number above 1.")
    x = p.sample(key, (n_samples,))
    gaps = p.log_prob(x) - q.log_prob(x)
    error = jnp.std(gaps, 0, ddof=1) / n_samples**0.5
    return Estimate(jnp.mean(gaps, 0), error)
