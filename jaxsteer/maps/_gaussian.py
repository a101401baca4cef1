"""The optimal-transport map between two normal distributions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer._varying import vary_together
from jaxsteer.linalg import (
    cholesky,
    eigh,
    matmul,
    roots_psd,
    sqrtm_psd,
    symmetrize,
    transpose,
    whiten_transposed,
)
from jaxsteer.maps._affine import AffineMap


def gaussian_transport(
    source_mean: Float[Array, "... d"],
    source_cov: Float[Array, "... d d"],
    target_mean: Float[Array, "... d"],
    target_cov: Float[Array, "... d d"],
) -> AffineMap:
    """Affine map that moves ``N(source)`` onto ``N(target)`` at least squared distance.

    ``W = S^{-1/2} (S^{1/2} R S^{1/2})^{1/2} S^{-1/2}`` with source covariance ``S`` and
    target covariance ``R``; ``b = target_mean - W source_mean``. `W` is symmetric
    positive definite. A singular source covariance is inverted on its range only.
    Cost O(d^3) each; leading axes are a batch. Differentiable.

    Args:
        source_mean: ``[..., d]``.
        source_cov: ``[..., d, d]``.
        target_mean: ``[..., d]``.
        target_cov: ``[..., d, d]``.

    Returns:
        The map, with the leading axes of the moments.

    References:
        Knott and Smith 1984; Peyre and Cuturi 2019, remark 2.31.

    Example:
        >>> import jax.numpy as jnp
        >>> zero, one = jnp.zeros(2), jnp.eye(2)
        >>> gaussian_transport(zero, one, zero + 1, 4 * one).weight.round(4).tolist()
        [[2.0, 0.0], [0.0, 2.0]]
    """
    d = source_cov.shape[-1]
    shape = jnp.broadcast_shapes(source_cov.shape, target_cov.shape)
    flat = vary_together(
        [
            jnp.broadcast_to(c, shape).reshape((-1, d, d))
            for c in (source_cov, target_cov)
        ]
    )
    weight = _weights(flat[0], flat[1]).reshape(shape)
    bias = target_mean - matmul(weight, source_mean[..., None])[..., 0]
    return AffineMap(weight, bias)


@jax.jit
def _weights(source: Array, target: Array) -> Array:
    # One problem at a time: a mapped condition would compute both sides of each.
    # Compiled here because a mapped closure would be compiled anew at every eager call.
    if len(source) == 1:  # a loop of one takes a tenth longer
        return _weight_of((source[0], target[0]))[None]
    return jax.lax.map(_weight_of, (source, target))


def _weight_of(pair: tuple[Array, Array]) -> Array:
    source, target = (symmetrize(cov) for cov in pair)
    # Their products leave the range of float32 in units of 1e12; the map has none.
    unit = _unit(source, target)
    source, target = source / unit, target / unit
    factor, regular = _factor(jax.lax.stop_gradient(source))
    weight, _ = _weight_and_frame(source, target, factor)
    return jax.lax.cond(
        regular,
        lambda source, target: weight,
        _weight_by_roots,
        source,
        target,
    )


def _unit(source: Array, target: Array):
    """A power of 2 near the largest variance, and 1 where there is none."""
    largest = jnp.max(jnp.stack([jnp.diagonal(source), jnp.diagonal(target)]))
    usable = jnp.isfinite(largest) & (largest > 0)
    _, power = jnp.frexp(jax.lax.stop_gradient(jnp.where(usable, largest, 0.75)))
    return jnp.ldexp(jnp.ones((), source.dtype), power)


def _factor(source: Array):
    """A Cholesky factor (the identity for a singular matrix), and if it is one."""
    factor = cholesky(source)
    pivots = jnp.diagonal(factor)
    # A zero pivot comes out as some roundings, however few the features.
    rounding = (100 + source.shape[-1]) * float(jnp.finfo(source.dtype).eps)
    floor = rounding * jnp.max(pivots) ** 2
    regular = jnp.min(pivots) ** 2 > floor  # NaN compares as false
    return jnp.where(regular, factor, jnp.eye(len(source), dtype=source.dtype)), regular


def _weight_by_roots(source: Array, target: Array):
    """The map of a singular source, on its range."""
    root, inverse = roots_psd(source)
    middle = sqrtm_psd(matmul(root, matmul(target, root)))
    return symmetrize(matmul(inverse, matmul(middle, inverse)))


# ``W`` is the positive definite solution of ``W S W = R``, and the derivatives are those
# of this equation. In the frame ``U`` that makes ``S`` the identity, ``U' S U = I``, and
# the map diagonal, ``W = U diag(r) U'``, solving for them is a division. The frame only
# serves to solve with, so its own derivative counts as zero.
@jax.custom_jvp
def _weight_and_frame(source: Array, target: Array, factor: Array):
    del source  # its factor says all
    inner = matmul(transpose(factor), matmul(target, factor))
    values, vectors = eigh(inner)
    ratios = jnp.sqrt(jnp.maximum(values, 0))
    frame = whiten_transposed(factor, vectors)
    weight = symmetrize(matmul(frame * ratios[None], transpose(frame)))
    dual = matmul(factor, vectors)  # frame' dual = I
    return weight, (ratios, frame, dual)


@_weight_and_frame.defjvp
def _weight_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    source, target, factor = primals
    dsource, dtarget, _ = tangents
    weight, (ratios, frame, dual) = _weight_and_frame(source, target, factor)
    sums = ratios[:, None] + ratios[None, :]
    floor = len(ratios) * float(jnp.finfo(ratios.dtype).eps) * jnp.max(ratios)
    inverse = jnp.where(sums > floor, 1 / jnp.where(sums > floor, sums, 1.0), 0.0)

    def operator(x: Array):
        pulled = matmul(source, weight)
        return matmul(x, pulled) + matmul(transpose(pulled), x)

    def solve_between(inner: Array, outer: Array):
        def solve(_: Any, c: Array):
            turned = matmul(transpose(inner), matmul(c, inner))
            return matmul(outer, matmul(inverse * turned, transpose(outer)))

        return solve

    change = dtarget - matmul(weight, matmul(dsource, weight))
    dweight = jax.lax.custom_linear_solve(
        operator,
        symmetrize(change),
        solve_between(dual, frame),
        transpose_solve=solve_between(frame, dual),
    )
    still = jax.tree.map(jnp.zeros_like, (ratios, frame, dual))
    return (weight, (ratios, frame, dual)), (dweight, still)
