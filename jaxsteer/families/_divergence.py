"""``kl_divergence(p, q)``: looks up the closed form for a pair of families."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.families._diagonal_normal import DiagonalNormal, kl_diagonal_normal
from jaxsteer.families._low_rank_normal import LowRankNormal, kl_low_rank_normal
from jaxsteer.families._multivariate_normal import (
    MultivariateNormal,
    kl_multivariate_normal,
)
from jaxsteer.families._normal import Normal, kl_normal
from jaxsteer.families._transformed_normal import (
    LogNormal,
    MultivariateLogNormal,
    SharedBijection,
    TransformedNormal,
    check_same_bijection,
    kl_shared_bijection,
)


def kl_log_normal(p: LogNormal, q: LogNormal) -> Float[Array, "..."]:
    """``KL(p || q)`` of log-normals, in nats: that of the normals of ``log x``."""
    return kl_shared_bijection(p, q)


def kl_multivariate_log_normal(
    p: MultivariateLogNormal, q: MultivariateLogNormal
) -> Float[Array, "..."]:
    """``KL(p || q)`` of multivariate log-normals, in nats: that of ``log x``."""
    return kl_shared_bijection(p, q)


def kl_transformed_normal(
    p: TransformedNormal, q: TransformedNormal
) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats of normals seen through one shared bijection."""
    return kl_shared_bijection(p, q)


_CLOSED_FORMS = {
    DiagonalNormal: kl_diagonal_normal,
    LogNormal: kl_log_normal,
    LowRankNormal: kl_low_rank_normal,
    MultivariateLogNormal: kl_multivariate_log_normal,
    MultivariateNormal: kl_multivariate_normal,
    Normal: kl_normal,
    TransformedNormal: kl_transformed_normal,
}


def _dense(law: Any) -> MultivariateNormal:
    return law if isinstance(law, MultivariateNormal) else law.to_dense()


def _low_rank(law: DiagonalNormal | LowRankNormal) -> LowRankNormal:
    if isinstance(law, LowRankNormal):
        return law
    return LowRankNormal(law.loc, jnp.zeros_like(law.loc)[..., None], law.scale**2)


def kl_divergence(p: Any, q: Any) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats, by the closed form of the pair of families.

    Batches broadcast. A :class:`DiagonalNormal`, a :class:`LowRankNormal` and a
    :class:`MultivariateNormal` mix; only with the last one in O(d^3).

    Args:
        p: Distributions, batch ``[...]``.
        q: Distributions, batch that broadcasts against `p`'s.

    Returns:
        ``[...]`` divergences, non-negative, 0 with zero gradient at ``p = q``.

    Raises:
        TypeError: If there is no closed form for the pair.

    Example:
        >>> from jaxsteer.families import Normal
        >>> kl_divergence(Normal(0.0, 1.0), Normal(1.0, 1.0)).item()
        0.5
    """
    kinds = {type(p), type(q)}
    if len(kinds) == 2 and kinds <= {DiagonalNormal, LowRankNormal, MultivariateNormal}:
        alike = _low_rank if MultivariateNormal not in kinds else _dense
        p, q = alike(p), alike(q)
    if isinstance(p, SharedBijection) and isinstance(q, SharedBijection):
        check_same_bijection(p, q)
        return kl_divergence(p.base, q.base)
    if type(p) is not type(q) or type(p) not in _CLOSED_FORMS:
        raise TypeError(
            f"no closed-form KL divergence from {type(p).__name__} to "
            f"{type(q).__name__}; families with one: "
            f"{', '.join(sorted(c.__name__ for c in _CLOSED_FORMS))}."
        )
    return _CLOSED_FORMS[type(p)](p, q)
