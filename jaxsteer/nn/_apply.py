"""Steering as pure functions, shared by the NNX layers and their Linen twins."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax.typing import PrecisionLike

from jaxsteer._errors import check_codes
from jaxsteer._types import Array, ArrayLike, DTypeLike, Float, Int, Scalar
from jaxsteer.nn._residuals import Residual, product, wide_of

# A map gathered for one example costs about as much memory traffic as this many rows
# sent through one map cost arithmetic.
_GATHER_ROWS = 32


def add_residual(
    x: Float[Array, "... d"], change: Array, strength: Scalar
) -> Float[Array, "... d"]:
    """Return ``x + strength * change``, summed in float32 at least, in `x`'s dtype.

    Args:
        x: ``[B, ..., d]`` activations.
        change: The same shape.
        strength: A number, or ``[B]`` for each example its own.
    """
    strength = jnp.asarray(strength, change.dtype)
    leading = check_leading("strength", strength.shape, x)
    strength = strength.reshape(strength.shape + (1,) * (x.ndim - len(leading)))
    return (x.astype(change.dtype) + strength * change).astype(x.dtype)


def check_leading(name: str, shape: tuple[int, ...], x: Array) -> tuple[int, ...]:
    """Return `shape` if it is a prefix of the axes of `x` before the features."""
    if shape != x.shape[: len(shape)] or len(shape) >= max(x.ndim, 1):
        raise ValueError(
            f"{name} has shape {shape}, expected one entry an example of activations "
            f"with shape {x.shape}: a scalar, or the leading axes of {x.shape[:-1]}."
        )
    return shape


def steer(
    residual: Residual,
    x: Array,
    strength: Scalar,
    *,
    dtype: DTypeLike | None,
    precision: PrecisionLike,
) -> Array:
    """Apply one map to activations ``[..., d]``."""
    check_features(residual, x)

    def run(x: Array, residual: Residual, strength: Scalar) -> Array:
        change = residual(x.astype(dtype or x.dtype), precision)
        return add_residual(x, change, strength)

    return _sharded_like_input(run, x, residual, strength)


def steer_groups(
    residuals: Residual,
    x: Float[Array, "B ... d"],
    group: Int[ArrayLike, " B"],
    strength: Scalar,
    *,
    dtype: DTypeLike | None,
    precision: PrecisionLike,
) -> Float[Array, "B ... d"]:
    """Apply to each example the map of its group.

    Maps are gathered for each example where there are many rows an example or few
    examples, else every map is applied and the right row taken: O(min(B d^2 memory,
    G times the arithmetic)). A traced code outside ``0..G-1`` leaves its example as it
    is; a concrete one raises.
    """
    check_features(residuals, x)
    n_groups = residuals.bias.shape[0]
    group = jnp.asarray(group)
    check_codes("group", group, n_groups)
    leading = check_leading("group", group.shape, x)
    n_examples = math.prod(leading)
    n_rows = math.prod(x.shape[len(leading) : -1])
    few = n_examples <= n_groups or (n_groups - 1) * n_rows >= _GATHER_ROWS

    def run(x: Array, residuals: Residual, group: Array, strength: Scalar) -> Array:
        rows = x.astype(dtype or x.dtype).reshape(n_examples, n_rows, x.shape[-1])
        # Wide enough to count the groups in, whatever type the codes come in.
        codes = group.reshape(n_examples).astype(jnp.int32)
        change = (_gathered if few else _selected)(residuals, rows, codes, precision)
        return add_residual(x, change.reshape(x.shape), strength)

    return _sharded_like_input(run, x, residuals, group, strength)


def steer_mixture(
    residuals: Residual,
    x: Float[Array, "B ... d"],
    posterior: Float[Array, "... G"],
    strength: Scalar,
    *,
    dtype: DTypeLike | None,
    precision: PrecisionLike,
) -> Float[Array, "B ... d"]:
    """Apply the maps' average, weighted by the posterior of the groups."""
    check_features(residuals, x)
    n_groups = residuals.bias.shape[0]
    posterior = jnp.asarray(posterior)
    if posterior.ndim == 0 or posterior.shape[-1] != n_groups:
        raise ValueError(
            f"posterior has shape {posterior.shape}, expected {n_groups} entries in the "
            f"last axis, one for each map."
        )
    leading = check_leading("posterior", posterior.shape[:-1], x)
    n_examples = math.prod(leading)

    def run(x: Array, residuals: Residual, posterior: Array, strength: Scalar) -> Array:
        rows = x.astype(dtype or x.dtype).reshape(n_examples, -1, x.shape[-1])
        shares = posterior.reshape(n_examples, n_groups).T
        change = _averaged(residuals, rows, shares, precision)
        return add_residual(x, change.reshape(x.shape), strength)

    return _sharded_like_input(run, x, residuals, posterior, strength)


def posterior_of(kernel: Array, bias: Array, x: Array) -> Float[Array, "... G"]:
    """Return ``softmax(x @ kernel + bias)`` in float32 at least."""

    def run(x: Array, kernel: Array, bias: Array) -> Array:
        logits = product(x, kernel)
        return jax.nn.softmax(logits + bias.astype(logits.dtype), axis=-1)

    return _sharded_like_input(run, x, kernel, bias, features=False)


def check_features(residual: Residual, x: Array) -> None:
    """Raise unless `x` ends in as many features as the maps move."""
    d = residual.bias.shape[-1]
    if x.ndim == 0 or x.shape[-1] != d:
        raise ValueError(
            f"x has shape {x.shape}, expected activations [..., {d}]: the layer's maps "
            f"move {d} features."
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"x has dtype {x.dtype}, expected floating-point activations; steer hidden "
            f"states, not token codes."
        )


def _sharded_like_input(
    run: Callable[..., Array], x: Array, *others: Any, features: bool = True
) -> Array:
    """Return ``run(x, *others)``, sharded as `x` where the types of arrays say how.

    On a mesh with explicit axes products, reshapes and gathers of sharded arrays are
    refused unless each says where its result goes. Here the compiler is free inside, and
    the result goes where `x` was, whatever the maps' own sharding: a loop's carry, or
    the rest of a model, sees the type that it gave.

    Args:
        run: The function.
        x: Activations ``[..., d]``.
        *others: What else `run` takes.
        features: Whether the last axis of the result is that of `x`; else the last axis
            is on every device.
    """
    sharding = jax.typeof(x).sharding
    axes = sharding.mesh.explicit_axes
    if not axes:
        return run(x, *others)
    if not features:
        spec = jax.sharding.PartitionSpec(*sharding.spec[: x.ndim - 1], None)
        sharding = sharding.update(spec=spec)
    free: Any = jax.sharding.auto_axes(run, axes=axes, out_sharding=sharding)
    return free(x, *others)


def _zeros(rows: Array) -> Array:
    # Like the rows in their sharding, too, which a loop's carry must keep.
    return jnp.zeros_like(rows, dtype=wide_of(rows.dtype))


# Compiled by themselves: a loop over a function made here would be compiled anew at every
# call outside of jit.
@partial(jax.jit, static_argnames="precision")
def _averaged(residuals: Residual, rows: Array, shares: Array, precision: Any):
    def add(total: Array, item: tuple[Residual, Array]):
        residual, share = item
        change = residual(rows, precision)
        return total + share[:, None, None].astype(change.dtype) * change, None

    return jax.lax.scan(add, _zeros(rows), (residuals, shares))[0]


def _gathered(residuals: Residual, rows: Array, codes: Array, precision: Any) -> Array:
    n_groups = residuals.bias.shape[0]
    # Past the end, where a gather fills in zeros: the map that adds nothing.
    safe = jnp.where((codes >= 0) & (codes < n_groups), codes, n_groups)
    own = jax.tree.map(lambda a: a.at[safe].get(mode="fill", fill_value=0), residuals)
    return jax.vmap(lambda residual, x: residual(x, precision))(own, rows)


@partial(jax.jit, static_argnames="precision")
def _selected(residuals: Residual, rows: Array, codes: Array, precision: Any):
    def choose(total: Array, item: tuple[Residual, Array]):
        residual, code = item
        change = residual(rows, precision)
        return jnp.where((codes == code)[:, None, None], change, total), None

    every = jnp.arange(residuals.bias.shape[0], dtype=codes.dtype)
    return jax.lax.scan(choose, _zeros(rows), (residuals, every))[0]
