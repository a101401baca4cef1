"""Products at full precision (on GPUs the default is TF32, which loses 13 bits)."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer._varying import vary_together

matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
einsum = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


# Below so many columns the product with a vector is a sum, which takes a fifth of the
# machine code that a compiler unrolls for one, and no longer.
FEW_COLUMNS = 32


def matvec(
    a: Float[Array, "... m n"], x: Float[Array, "... n"]
) -> Float[Array, "... m"]:
    """Return ``a x``; leading axes broadcast."""
    if a.shape[-1] < FEW_COLUMNS:
        return jnp.sum(a * x[..., None, :], -1)
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
