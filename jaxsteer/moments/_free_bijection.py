"""The parameters of a bijection as a vector of free numbers, to be searched over."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._errors import is_concrete
from jaxsteer._types import Array, Float
from jaxsteer.maps import (
    BoxCox,
    Chain,
    RationalQuadraticSpline,
    SinhArcsinh,
    YeoJohnson,
)

SCALARS = (BoxCox, SinhArcsinh, YeoJohnson)
FITTED = (*SCALARS, RationalQuadraticSpline)
# Scalars that are searched on a logarithmic scale.
POSITIVE = ("tailweight",)
# Scalars that stay between two values: beyond them a power serves a few rows, and its
# range ends close to the data.
BETWEEN = {"power": (-2.0, 4.0)}


def free_numbers(bijection: Any, dtype: Any) -> Float[Array, " m"]:
    """The free numbers of a bijection's parameters.

    Raises:
        ValueError: If it has none, one of another shape, or no rule to be fitted by.
    """
    numbers = _numbers(bijection, dtype)
    if not numbers:
        raise ValueError(
            "bijection has no parameters to fit; call jaxsteer.fit_population on "
            "bijection.inverse(x), or with family='lognormal'."
        )
    return jnp.concatenate(numbers)


def with_free_numbers(free: Float[Array, " m"], like: Any) -> Any:
    """The bijection of a vector of free numbers; see :func:`free_numbers`."""
    bijection, rest = _take(free, like)
    assert rest.shape == (0,)
    return bijection


def _numbers(bijection: Any, dtype: Any) -> list[Array]:
    if isinstance(bijection, Chain):
        return [part for link in bijection.links for part in _numbers(link, dtype)]
    if isinstance(bijection, RationalQuadraticSpline):
        return _spline_numbers(bijection, dtype)
    if isinstance(bijection, SCALARS):
        return [
            _scalar(name, value, dtype)[None] for name, value in vars(bijection).items()
        ]
    if jax.tree.leaves(bijection):
        raise ValueError(
            f"bijection: {type(bijection).__name__} has no rule to be fitted by; take "
            f"one of {', '.join(kind.__name__ for kind in FITTED)}."
        )
    return []


def _scalar(name: str, value: Any, dtype: Any) -> Float[Array, ""]:
    value = jnp.asarray(value, dtype)
    if value.ndim:
        raise ValueError(
            f"bijection must have scalar parameters, {name} has shape {value.shape}; "
            f"every feature's own are what is fitted."
        )
    if name in BETWEEN:
        low, high = BETWEEN[name]
        if is_concrete(value) and not low < float(value) < high:
            raise ValueError(
                f"bijection starts at {name}={value}, which must lie between {low} and "
                f"{high}; start at 1, the identity."
            )
        return jnp.arctanh((2 * value - low - high) / (high - low))
    return jnp.log(value) if name in POSITIVE else value


def _scalar_of(name: str, free: Array) -> Array:
    if name in BETWEEN:
        low, high = BETWEEN[name]
        return (low + high + (high - low) * jnp.tanh(free)) / 2
    return jnp.exp(free) if name in POSITIVE else free


def _spline_numbers(spline: RationalQuadraticSpline, dtype: Any) -> list[Array]:
    """Logarithms of the knots' distances, beside the first one, and of the slopes.

    The data values of the knots stay, and so do the ends of the base coordinates: what
    moves all of these by one gain and shift, the cells' moments undo.
    """
    leaves = jax.tree.leaves(spline)
    if any(jnp.ndim(leaf) != 1 for leaf in leaves):
        raise ValueError(
            "bijection must have knots of shape [n], got "
            f"{[jnp.shape(leaf) for leaf in leaves]}; every feature gets its own."
        )
    log_widths = jnp.log(jnp.diff(jnp.asarray(spline.z_knots, dtype)))
    return [log_widths[1:] - log_widths[0], jnp.log(jnp.asarray(spline.slopes, dtype))]


def _take(free: Array, like: Any) -> tuple[Any, Array]:
    """A bijection of the first numbers, and the numbers that are left."""
    if isinstance(like, Chain):
        links = []
        for link in like.links:
            link, free = _take(free, link)
            links.append(link)
        return Chain(tuple(links)), free
    if isinstance(like, RationalQuadraticSpline):
        n = like.z_knots.shape[-1]
        z = jnp.asarray(like.z_knots, free.dtype)
        shares = jax.nn.softmax(
            jnp.concatenate([jnp.zeros(1, free.dtype), free[: n - 2]])
        )
        inner = z[0] + (z[-1] - z[0]) * jnp.cumsum(shares)[:-1]
        knots = jnp.concatenate([z[:1], inner, z[-1:]])
        x_knots = jnp.asarray(like.x_knots, free.dtype)
        slopes = jnp.exp(free[n - 2 : 2 * n - 2])
        return RationalQuadraticSpline(knots, x_knots, slopes), free[2 * n - 2 :]
    if isinstance(like, SCALARS):
        names = list(vars(like))
        leaves = [
            _scalar_of(name, value)
            for name, value in zip(names, free[: len(names)], strict=True)
        ]
        return type(like)(*leaves), free[len(names) :]
    return like, free
