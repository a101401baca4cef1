"""Which values the parameters of each family may have.

A divergence is a formula: minus times minus gives a rate of -2 the same ratio as one of
2, so a law that does not exist can have a finite divergence and a converged solve.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import is_concrete
from jaxsteer._types import Array, Bool
from jaxsteer.families._beta import Beta
from jaxsteer.families._categorical import Bernoulli, Categorical
from jaxsteer.families._diagonal_normal import DiagonalNormal
from jaxsteer.families._dirichlet import Dirichlet
from jaxsteer.families._exponential import Exponential
from jaxsteer.families._gamma import Gamma, InverseGamma
from jaxsteer.families._geometric import Geometric
from jaxsteer.families._gumbel import Gumbel
from jaxsteer.families._laplace import Laplace
from jaxsteer.families._low_rank_normal import LowRankNormal
from jaxsteer.families._multivariate_normal import MultivariateNormal
from jaxsteer.families._normal import Normal
from jaxsteer.families._pareto import Pareto
from jaxsteer.families._poisson import Poisson
from jaxsteer.families._product import Product
from jaxsteer.families._transformed_normal import SharedBijection
from jaxsteer.families._von_mises import VonMises
from jaxsteer.families._weibull import Rayleigh, Weibull


def _real(x: Array) -> Array:
    return jnp.isfinite(x)


def _positive(x: Array) -> Array:
    return jnp.isfinite(x) & (x > 0)


def _not_negative(x: Array) -> Array:
    return jnp.isfinite(x) & (x >= 0)


def _covariance(x: Array) -> Array:
    """What every covariance has, without factoring it: no correlation is above 1.

    One that passes and is not positive definite has no Cholesky factor, so that its
    divergence is NaN.
    """
    variance = jnp.diagonal(x, axis1=-2, axis2=-1)
    safe = jnp.where(variance > 0, variance, 1)
    deviation = jnp.sqrt(safe)
    # Two divisions: the product of two deviations may overflow.
    correlation = x / deviation[..., :, None] / deviation[..., None, :]
    slack = 1 + 100 * jnp.finfo(x.dtype).eps
    symmetric = jnp.abs(correlation - jnp.swapaxes(correlation, -1, -2)) < 1e-2
    inside = symmetric & (jnp.abs(correlation) <= slack)
    return jnp.all(inside, (-2, -1)) & jnp.all(_positive(variance), -1)


#: What each parameter must be: a test in words, and on arrays.
_RULES: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "real": ("finite", _real),
    "positive": ("positive and finite", _positive),
    "not_negative": ("at least 0 and finite", _not_negative),
    "covariance": ("symmetric, with positive variances", _covariance),
}
_LOCATION = {"loc": "real", "scale": "positive"}

#: The domain of every family's parameters; a test holds it to the families exported.
DOMAINS: dict[type, dict[str, str]] = {
    Bernoulli: {"logits": "real"},
    Beta: {"concentration1": "positive", "concentration0": "positive"},
    Categorical: {"logits": "real"},
    DiagonalNormal: _LOCATION,
    Dirichlet: {"concentration": "positive"},
    Exponential: {"rate": "positive"},
    Gamma: {"concentration": "positive", "rate": "positive"},
    Geometric: {"logits": "real"},
    Gumbel: _LOCATION,
    InverseGamma: {"concentration": "positive", "scale": "positive"},
    Laplace: _LOCATION,
    LowRankNormal: {"mean": "real", "factor": "real", "diagonal": "positive"},
    MultivariateNormal: {"mean": "real", "cov": "covariance"},
    Normal: _LOCATION,
    Pareto: {"concentration": "positive", "scale": "positive"},
    Poisson: {"rate": "not_negative"},
    Rayleigh: {"scale": "positive"},
    VonMises: {"loc": "real", "concentration": "not_negative"},
    Weibull: {"concentration": "positive", "scale": "positive"},
}


def parameters_valid(law: Any) -> Bool[Array, ""]:
    """Tell whether every parameter of a law, or of a batch of laws, is in its domain.

    A law of another family than those of this package passes if its numbers are finite.
    Not differentiated; for a covariance it is what can be seen without a factorization.

    Args:
        law: Distributions of any batch.

    Returns:
        ``[]`` bool.

    Example:
        >>> bool(parameters_valid(Exponential(-2.0)))
        False
    """
    tests = [jnp.all(ok) for _, _, ok in _tested(law)]
    return jnp.all(jnp.stack(tests)) if tests else jnp.ones((), bool)


def check_parameters(law: Any, what: str = "conditionals") -> None:
    """Raise if a concrete parameter is out of its domain, naming the first place.

    Args:
        law: Distributions of any batch.
        what: What they are, for the message.

    Raises:
        ValueError: Naming the family, the parameter, the place and the value.
    """
    for name, rule, ok in _tested(law):
        if not is_concrete(ok):
            continue
        bad = np.argwhere(~np.asarray(ok))
        if len(bad):
            place = f" at index {', '.join(map(str, bad[0]))}" if bad.shape[1] else ""
            raise ValueError(
                f"{what}: the parameter {name} must be {rule}, and {len(bad)} of its "
                f"entries are not, the first{place}; correct it, or choose a family that "
                "allows such values."
            )


def _tested(law: Any, prefix: str = "") -> list[tuple[str, str, Array]]:
    """List every parameter: its name, its rule in words, and where it keeps it."""
    if isinstance(law, SharedBijection):
        base = _tested(law.base, prefix)
        return base + _finite(law.bijection, f"{prefix}bijection")
    if isinstance(law, Product):
        return [
            found
            for i, block in enumerate(law.blocks)
            for found in _tested(block, f"{prefix}blocks[{i}].")
        ]
    domain = DOMAINS.get(type(law))
    if domain is None:
        return _finite(law, f"{prefix}{type(law).__name__}")
    dtype = jnp.result_type(*jax.tree.leaves(law), float)
    found = []
    for field in dataclasses.fields(law):
        words, rule = _RULES[domain[field.name]]
        value = jax.lax.stop_gradient(jnp.asarray(getattr(law, field.name), dtype))
        found.append((f"{prefix}{type(law).__name__}.{field.name}", words, rule(value)))
    return found


def _finite(tree: Any, name: str) -> list[tuple[str, str, Array]]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [(name, "finite", jnp.isfinite(leaf)) for leaf in leaves]
