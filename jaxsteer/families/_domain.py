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
from jaxsteer.families._family import traits_of
from jaxsteer.families._product import Product
from jaxsteer.families._transformed_normal import SharedBijection


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


def parameters_valid(law: Any) -> Bool[Array, ""]:
    """Tell whether every parameter of a law, or of a batch of laws, is in its domain.

    A law of a class that is no registered family passes if its numbers are finite.
    Not differentiated; for a covariance it is what can be seen without a factorization.

    Args:
        law: Distributions of any batch.

    Returns:
        ``[]`` bool.

    Example:
        >>> from jaxsteer.families import Exponential
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
    traits = traits_of(law)
    if traits is None or not traits.domain:
        return _finite(law, f"{prefix}{type(law).__name__}")
    dtype = jnp.result_type(*jax.tree.leaves(law), float)
    found = []
    for field in dataclasses.fields(law):
        words, rule = _RULES[traits.domain[field.name]]
        value = jax.lax.stop_gradient(jnp.asarray(getattr(law, field.name), dtype))
        found.append((f"{prefix}{type(law).__name__}.{field.name}", words, rule(value)))
    return found


def _finite(tree: Any, name: str) -> list[tuple[str, str, Array]]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [(name, "finite", jnp.isfinite(leaf)) for leaf in leaves]
