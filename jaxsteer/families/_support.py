"""What the univariate families share: supports, sample weights, maps of scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_finite, check_weights, is_concrete
from jaxsteer._types import Array, ArrayLike, Float
from jaxsteer.maps import DiagonalMap


def on_support(x: Array, inside: Array, log_prob: Array) -> Array:
    """`log_prob` where `inside`, ``-inf`` off the support, NaN where `x` is missing.

    What makes `log_prob` must be guarded as well: ``where(inside, x, 1)``.
    """
    return jnp.where(inside, log_prob, jnp.where(jnp.isnan(x), jnp.nan, -jnp.inf))


def draws(shape: tuple[int, ...], *parameters: Any) -> tuple[tuple[int, ...], Any]:
    """Shape and floating dtype of ``shape + batch`` draws."""
    batch = jnp.broadcast_shapes(*(jnp.shape(leaf) for leaf in parameters))
    return (*shape, *batch), jnp.result_type(*parameters, float)


def as_floating(x: Any, *parameters: Any) -> Array:
    """Return `x` as an array of the floating dtype of `x` and the parameters."""
    return jnp.asarray(x, jnp.result_type(x, *parameters, float))


def weighted_samples(
    x: Float[ArrayLike, "... n"],
    weights: Float[ArrayLike, "... n"] | None,
    inside: Callable[[np.ndarray], Any] | None = None,
    support: str = "",
) -> tuple[Float[Array, "... n"], Float[Array, "... n"]]:
    """Check samples and return them with weights that sum to 1 over the last axis.

    Args:
        x: ``[..., n]`` samples.
        weights: Weights that broadcast against them, or None for equal ones.
        inside: Tells of concrete samples which are on the support.
        support: The support in words, for the message.

    Raises:
        ValueError: If there are no samples, the weights do not fit, or concrete values
            are not finite or off the support.
    """
    if jnp.ndim(x) == 0 or jnp.shape(x)[-1] == 0:
        raise ValueError(f"x must hold samples in its last axis, got {jnp.shape(x)}.")
    check_finite("x", x)
    if inside is not None and is_concrete(x):
        values = np.asarray(x)
        bad = ~np.asarray(inside(values))
        if bad.any():
            # Rows may stand there once for every cell that weighs them.
            places = bad.reshape(-1, bad.shape[-1]).any(0)
            raise ValueError(
                f"x must be {support}, got {int(places.sum())} other values, the first "
                f"{values[tuple(np.argwhere(bad)[0])]}; drop them or choose a family "
                "with their support."
            )
    x = as_floating(x)
    return x, normalized_weights(x, weights)


def normalized_weights(x: Array, weights: ArrayLike | None) -> Array:
    """Weights of the samples `x`, ``[..., n]``, that sum to 1 over the last axis."""
    if weights is None:
        return jnp.full(x.shape, 1 / x.shape[-1], x.dtype)
    try:
        weights = jnp.broadcast_to(jnp.asarray(weights, x.dtype), x.shape)
    except ValueError as error:
        raise ValueError(
            f"weights must broadcast against the samples {x.shape}, got "
            f"{jnp.shape(weights)}."
        ) from error
    check_weights(weights.ravel())
    return weights / jnp.sum(weights, -1, keepdims=True)


def positive_scale(move: DiagonalMap, family: str) -> Array:
    """Return the scale of a map ``x -> scale * x``.

    Raises:
        ValueError: If concrete values show a shift, or a scale that is not positive.
    """
    if is_concrete(move.shift) and np.any(np.asarray(move.shift) != 0):
        raise ValueError(
            f"{family} is a scale family: the map's shift must be 0, got {move.shift}."
        )
    return increasing_scale(move, family)


def increasing_scale(move: DiagonalMap, family: str) -> Array:
    """Return the scale of a map, which must be positive where it is concrete."""
    if is_concrete(move.scale) and np.any(np.asarray(move.scale) <= 0):
        raise ValueError(
            f"{family} is kept by increasing maps only: the map's scale must be "
            f"positive, got {move.scale}."
        )
    return jnp.asarray(move.scale)


def scaling(
    scale: Array, shape: tuple[Array, Array] | None = None, family: str = ""
) -> DiagonalMap:
    """Return the map ``x -> scale * x`` between laws of one shape.

    Args:
        scale: What `x` is multiplied by.
        shape: The two laws' shape parameters; where they differ the map is NaN.
        family: Name for the message.

    Raises:
        ValueError: If concrete shapes differ.
    """
    if shape is not None:
        p, q = (jnp.asarray(leaf) for leaf in shape)
        near = jnp.abs(p - q) <= 100 * jnp.finfo(scale.dtype).eps * jnp.abs(p)
        if is_concrete(near) and not np.all(np.asarray(near)):
            raise ValueError(
                f"{family} laws of different concentrations have no map in closed form "
                f"between them; steer with the group maps, without labels."
            )
        scale = jnp.where(near, scale, jnp.nan)
    return DiagonalMap(scale, jnp.zeros_like(scale))


def newton(
    fn: Callable[[Array], Array], target: Array, start: Array, steps: int
) -> Array:
    """Solve ``fn(x) = target`` elementwise for an increasing `fn` and ``x > 0``.

    A fixed number of steps, each at most to a fifth or to five times where it was:
    every `fn` here is nearly linear, so that a few suffice.
    """

    def step(_: int, x: Array) -> Array:
        value, slope = jax.jvp(fn, (x,), (jnp.ones_like(x),))
        return jnp.clip(x + (target - value) / slope, x / 5, x * 5)

    return jax.lax.fori_loop(0, steps, step, start)
