"""Cholesky factors of covariances, with any jitter reported, and what follows."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float
from jaxsteer._varying import vary_together
from jaxsteer.linalg._factor import cholesky, cholesky_inverse, solve_lower
from jaxsteer.linalg._matmul import matmul, symmetrize, transpose


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PsdFactor:
    """A lower Cholesky factor and the jitter that it needed.

    Attributes:
        factor: ``[d, d]`` lower triangular, ``factor @ factor.T = a + jitter * I``. NaN
            where even the largest jitter did not help: the matrix is not PSD.
        jitter: ``[]`` absolute jitter added to the diagonal, 0 where none was needed.
    """

    factor: Float[Array, "d d"]
    jitter: Float[Array, ""]


def cholesky_psd(
    a: Float[Array, "d d"], *, max_jitter: float | None = None
) -> PsdFactor:
    """Factor a positive semi-definite matrix, adding the least jitter that works.

    Jitters tried are 0, then ``eps * trace/d`` times 10, 1000, ... up to `max_jitter`.
    What was added is in the result, never hidden. Cost: O(d^3) for each try and one
    more; batch it with ``vmap``. Differentiable in `a` (the jitter is held constant).

    Args:
        a: ``[d, d]`` symmetric matrix.
        max_jitter: Largest jitter, relative to ``trace(a) / d``; None takes the square
            root of the dtype's epsilon, 0 forbids jitter.

    Returns:
        The factor and the absolute jitter.

    Example:
        >>> import jax.numpy as jnp
        >>> singular = jnp.ones((2, 2))
        >>> found = cholesky_psd(singular)
        >>> bool(jnp.isfinite(found.factor).all()), bool(found.jitter > 0)
        (True, True)
    """
    eps = float(jnp.finfo(a.dtype).eps)
    limit = eps**0.5 if max_jitter is None else max_jitter
    steps = [0.0]
    while 10 * eps * 100 ** (len(steps) - 1) <= limit:
        steps.append(10 * eps * 100 ** (len(steps) - 1))
    ladder = jnp.asarray(steps, a.dtype)
    d = a.shape[-1]
    identity = jnp.eye(d, dtype=a.dtype)
    scale = jax.lax.stop_gradient(jnp.trace(a) / d)
    fixed = jax.lax.stop_gradient(symmetrize(a))

    def failed(index: int | Array):
        factor = cholesky(fixed + ladder[index] * scale * identity)
        return ~jnp.isfinite(factor).all()

    def body(state: tuple[Array, Array]):
        index, _ = state
        return index + 1, failed(index + 1)

    last = len(steps) - 1
    index, _ = jax.lax.while_loop(
        lambda state: state[1] & (state[0] < last),
        body,
        vary_together((jnp.zeros((), jnp.int32), failed(0))),
    )
    jitter = ladder[index] * scale
    return PsdFactor(factor=cholesky(symmetrize(a) + jitter * identity), jitter=jitter)


def logdet_from_cholesky(factor: Float[Array, "... d d"]) -> Float[Array, "..."]:
    """Log-determinant of ``factor @ factor.T``."""
    diagonal = jnp.diagonal(factor, axis1=-2, axis2=-1)
    return 2 * jnp.sum(jnp.log(diagonal), -1)


def whiten(
    factor: Float[Array, "... d d"], b: Float[Array, "... d m"]
) -> Float[Array, "... d m"]:
    """Solve ``factor @ y = b`` for lower triangular `factor`."""
    return solve_lower(factor, b)


def whiten_transposed(
    factor: Float[Array, "... d d"], b: Float[Array, "... d m"]
) -> Float[Array, "... d m"]:
    """Solve ``factor.T @ y = b`` for lower triangular `factor`."""
    return solve_lower(factor, b, True)


def solve_psd(
    factor: Float[Array, "... d d"], b: Float[Array, "... d m"]
) -> Float[Array, "... d m"]:
    """Solve ``(factor @ factor.T) @ y = b``."""
    return whiten_transposed(factor, whiten(factor, b))


def solve_positive_definite(
    a: Float[Array, "... m m"], b: Float[Array, "... m"]
) -> Float[Array, "... m"]:
    """Solve ``a @ y = b`` by a Cholesky factorization, without jitter.

    For up to some hundreds of unknowns: one call for each matrix, and products. NaN
    where `a` is not positive definite.
    """
    _, inverse = cholesky_inverse(a)
    whitened = matmul(inverse, b[..., None])
    return matmul(transpose(inverse), whitened)[..., 0]
