"""Products at full precision (on GPUs the default is TF32, which loses 13 bits)."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, ArrayLike, Float
from jaxsteer._varying import vary_together

einsum = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


# Below so many columns the product with a vector is a sum, which takes a fifth of the
# machine code that a compiler unrolls for one, and no longer.
FEW_COLUMNS = 32


# XLA for CPUs hands stacks of matrices to a library that takes half a microsecond for
# each with 4 to 7 columns. As sums of products they are three times as fast.
FEW_ENTRIES = 7
FEW_SUMS = 2**8  # of so few terms each, which the library would transpose first


def matmul(a: ArrayLike, b: ArrayLike) -> Array:
    """Return ``a [..., l, m]`` times ``b [..., m, n]``; leading axes broadcast.

    Vectors are as for ``jnp.matmul``.
    """
    shapes = jnp.shape(a)[-2:], jnp.shape(b)[-2:]
    few = min(map(len, shapes)) == 2 and (
        max(map(max, shapes)) <= FEW_ENTRIES
        or (shapes[0][1] <= FEW_ENTRIES and shapes[0][0] * shapes[1][1] <= FEW_SUMS)
    )
    # Half precision: the library rounds sums, not products.
    few = few and jnp.result_type(a).itemsize >= 4
    return (_sum_of_products if few else _library_product)(a, b)


_library_product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


@partial(jax.jit, inline=True)
def _sum_of_products(a: Array, b: Array) -> Array:
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matrices {a.shape} and {b.shape} have no product.")
    # Of one rank, whatever the user allows to be promoted.
    rank = max(a.ndim, b.ndim)
    a, b = (jax.lax.expand_dims(each, range(rank - each.ndim)) for each in (a, b))
    return jnp.sum(a[..., :, :, None] * b[..., None, :, :], -2)


def matvec(
    a: Float[Array, "... m n"], x: Float[Array, "... n"]
) -> Float[Array, "... m"]:
    """Return ``a x``; leading axes broadcast."""
    if a.shape[-1] < FEW_COLUMNS:
        return jnp.sum(a * x[..., None, :], -1)
    if a.ndim == 2:
        return matmul(x, transpose(a))
    return matmul(a, x[..., None])[..., 0]


def transpose(a: Float[Array, "... m n"]) -> Float[Array, "... n m"]:
    """Swap the last two axes."""
    return jnp.swapaxes(a, -1, -2)


def symmetrize(a: Float[Array, "... d d"]) -> Float[Array, "... d d"]:
    """Return the symmetric part ``(a + a') / 2``."""
    return 0.5 * (a + transpose(a))


def identity_like(a: Float[Array, "... d d"]) -> Float[Array, "... d d"]:
    """The identity for every matrix of a stack."""
    identity = jnp.eye(a.shape[-1], dtype=a.dtype)
    return vary_together(jnp.broadcast_to(identity, a.shape), a)


def gram(a: Float[Array, "... m n"]) -> Float[Array, "... m m"]:
    """Return ``a a'``."""
    return matmul(a, transpose(a))
