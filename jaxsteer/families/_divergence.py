"""``kl_divergence(p, q)``: looks up the closed form for a pair of families."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.families._diagonal_normal import DiagonalNormal
from jaxsteer.families._exponential import Exponential
from jaxsteer.families._family import Family, registered, traits_of
from jaxsteer.families._gamma import Gamma
from jaxsteer.families._low_rank_normal import LowRankNormal
from jaxsteer.families._multivariate_normal import MultivariateNormal
from jaxsteer.families._transformed_normal import (
    LogNormal,
    MultivariateLogNormal,
    SharedBijection,
    TransformedNormal,
    check_same_bijection,
    kl_shared_bijection,
)
from jaxsteer.families._weibull import Rayleigh, Weibull


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


def _dense(law: Any) -> MultivariateNormal:
    return law if isinstance(law, MultivariateNormal) else law.to_dense()


def _low_rank(law: DiagonalNormal | LowRankNormal) -> LowRankNormal:
    if isinstance(law, LowRankNormal):
        return law
    return LowRankNormal(law.loc, jnp.zeros_like(law.loc)[..., None], law.scale**2)


def _as_one_family(p: Any, q: Any) -> tuple[Any, Any]:
    """Return members of different families as members of one that holds both."""
    kinds = {type(p), type(q)}
    if len(kinds) == 1:
        return p, q
    if kinds <= {DiagonalNormal, LowRankNormal, MultivariateNormal}:
        alike = _low_rank if MultivariateNormal not in kinds else _dense
        return alike(p), alike(q)
    if kinds == {Exponential, Gamma}:
        return _as_gamma(p), _as_gamma(q)
    if kinds <= {Exponential, Rayleigh, Weibull}:
        return _as_weibull(p), _as_weibull(q)
    return p, q


def _as_gamma(law: Exponential | Gamma) -> Gamma:
    return law if isinstance(law, Gamma) else law.to_gamma()


def _as_weibull(law: Exponential | Rayleigh | Weibull) -> Weibull:
    return law if isinstance(law, Weibull) else law.to_weibull()


def kl_divergence(p: Family, q: Family) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats, by the closed form of the pair of families.

    Batches broadcast. A :class:`DiagonalNormal`, a :class:`LowRankNormal` and a
    :class:`MultivariateNormal` mix; only with the last one in O(d^3). An
    :class:`Exponential` mixes with a :class:`Gamma`; it, a :class:`Rayleigh` and a
    :class:`Weibull` mix.

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
    p, q = _as_one_family(p, q)
    if isinstance(p, SharedBijection) and isinstance(q, SharedBijection):
        check_same_bijection(p, q)
        return kl_divergence(p.base, q.base)
    if type(p) is not type(q) or traits_of(p) is None:
        raise TypeError(
            f"no closed-form KL divergence from {type(p).__name__} to "
            f"{type(q).__name__}; families with one: "
            f"{', '.join(sorted(cls.__name__ for cls in registered()))}."
        )
    own: Any = p
    return own.kl(q)
