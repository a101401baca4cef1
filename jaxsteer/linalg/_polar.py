"""The orthogonal polar factor: the orthogonal matrix nearest to a given one."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.linalg._factor import slogdet, svd
from jaxsteer.linalg._matmul import matmul, transpose


def _svd(a, proper):
    u, s, vt = svd(a)
    if proper:
        # Turning the direction with the smallest singular value costs least.
        sign = slogdet(matmul(u, vt))[0]
        flip = jnp.ones_like(s).at[-1].set(jnp.where(sign < 0, -1.0, 1.0))
        u, s = u * flip[None], s * flip
    return u, s, vt


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def polar_orthogonal(
    a: Float[Array, "d d"], proper: bool = False
) -> Float[Array, "d d"]:
    """Orthogonal ``o`` that maximizes ``tr(o' a)``; a rotation if `proper`.

    With ``a = u s v'`` it is ``u v'`` (orthogonal Procrustes). The derivative has sums
    of singular values as denominators; where such a sum is 0 (the answer is not unique)
    it is damped to 0. Cost O(d^3).

    Args:
        a: ``[d, d]`` matrix.
        proper: Require determinant +1 (Kabsch): the direction of the smallest singular
            value is turned if need be.

    Returns:
        ``[d, d]`` orthogonal matrix.
    """
    u, _, vt = _svd(a, proper)
    return matmul(u, vt)


@polar_orthogonal.defjvp
def _polar_jvp(proper, primals, tangents):
    (a,), (da,) = primals, tangents
    u, s, vt = _svd(a, proper)
    sums = s[:, None] + s[None, :]
    floor = a.shape[-1] * float(jnp.finfo(a.dtype).eps) * s[0]
    regular = jnp.abs(sums) > floor
    inner = matmul(transpose(u), matmul(da, transpose(vt)))
    skew = (inner - transpose(inner)) * jnp.where(
        regular, 1 / jnp.where(regular, sums, 1.0), 0.0
    )
    return matmul(u, vt), matmul(u, matmul(skew, vt))
