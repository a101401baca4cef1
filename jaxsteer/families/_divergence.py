"""``kl_divergence(p, q)``: looks up the closed form for a pair of families."""

from __future__ import annotations

from typing import Any

from jaxsteer._types import Array, Float
from jaxsteer.families._diagonal_normal import DiagonalNormal, kl_diagonal_normal
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
    MultivariateLogNormal: kl_multivariate_log_normal,
    MultivariateNormal: kl_multivariate_normal,
    Normal: kl_normal,
    TransformedNormal: kl_transformed_normal,
}


def kl_divergence(p: Any, q: Any) -> Float[Array, "..."]:
    """``KL(p || q)`` in nats, by the closed form of the pair of families.

    Batches broadcast. A :class:`DiagonalNormal` and a :class:`MultivariateNormal` mix.

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
    if {type(p), type(q)} == {DiagonalNormal, MultivariateNormal}:
        p, q = (d.to_dense() if isinstance(d, DiagonalNormal) else d for d in (p, q))
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
