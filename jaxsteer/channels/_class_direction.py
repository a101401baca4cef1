"""One coordinate in which two classes of unequal covariances agree over groups.

Noise that is blind to the class cannot change the difference of two classes' variances.
So each group reads the direction ``w_a`` that has ``w' (mu_1a - mu_0a) = 1`` and
``w' (Sigma_1a - Sigma_0a) w = c`` with one ``c`` for all groups, and the least pooled
variance ``psi_a(c)`` among those; noise lifts that to ``max_a psi_a(c)``, and ``c`` is
the number that makes this maximum least. Each ``psi_a`` is convex, and its directions
are ``((1 - t) Sigma_0a + t Sigma_1a)^-1 (mu_1a - mu_0a)``, one for each ``c``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array, Float
from jaxsteer.channels._discriminants import root_or_zero
from jaxsteer.linalg import (
    cholesky,
    eigh,
    einsum,
    matmul,
    solve,
    symmetrize,
    transpose,
    whiten,
)
from jaxsteer.linalg import whiten_transposed as unwhiten


class ClassDirections(NamedTuple):
    """What each group reads, and what all of them then see.

    Attributes:
        weights: ``[G, d]`` the directions, in units of the common pooled variance.
        noise: ``[G]`` standard deviations of the noise.
        means: ``[2]`` class means.
        variances: ``[2]`` class variances.
        exact: ``[]`` whether every group has a direction with the common difference of
            variances.
    """

    weights: Array
    noise: Array
    means: Array
    variances: Array
    exact: Array


class _Plane(NamedTuple):
    """Directions ``base + u`` of mean difference 1, in pooled-white coordinates.

    There the pooled variance is ``least + |u|^2`` and the difference of the classes'
    variances is ``offset + 2 slope' u + u' bend u``.
    """

    base: Array
    least: Array
    offset: Array
    slope: Array
    bend: Array


class _Curve(NamedTuple):
    """The same in the bend's eigenvectors, for the search; constants to derivatives."""

    offset: Array
    pulls: Array
    bends: Array
    least: Array
    vectors: Array
    ends: Array


def class_directions(
    mean: Float[Array, "2 G d"], cov: Float[Array, "2 G d d"], share: Float[Array, " 2"]
) -> ClassDirections:
    """Find the most informative coordinate that is exact for unequal covariances.

    The search is by nested bisection, O(G d) a step after O(G d^3); derivatives are
    those of the solution, 0 in ``c`` where a bound of what is possible holds it.

    Args:
        mean: ``[2, G, d]`` class means.
        cov: ``[2, G, d, d]`` class covariances.
        share: ``[2]`` class shares, which sum to 1.

    Returns:
        Directions, noise and the common law. A group without any mean difference leaves
        noise only.
    """
    lower = cholesky(einsum("k,kaij->aij", share, cov))
    given = jnp.concatenate([(mean[1] - mean[0])[..., None], cov[1] - cov[0]], -1)
    white = whiten(lower, given)
    length = jnp.sum(white[..., 0] ** 2, -1)
    eps = float(jnp.finfo(length.dtype).eps)
    blind = jnp.any(length <= 10 * eps * jnp.sum(length))
    gap = jnp.where(blind, jnp.ones_like(white[..., 0]), white[..., 0])
    spread = symmetrize(whiten(lower, transpose(white[..., 1:])))
    plane = _plane(gap, spread)
    curve = _curve(jax.lax.stop_gradient(plane))
    common = _common(curve)
    bent, common = _responsive(plane, curve, common)
    extra, _ = _moves(plane, bent)
    extra = extra + jax.lax.stop_gradient(_last_step(plane, curve, extra, common))
    differences = _difference(plane, extra)
    pooled = plane.least + jnp.sum(extra**2, -1)
    largest = jnp.max(pooled)
    missing = 1 - pooled / largest
    missing = jnp.where(missing > 100 * eps, missing, 0.0)
    scale = jnp.where(blind, 0.0, 1 / jnp.sqrt(largest))
    weights = unwhiten(lower, (plane.base + extra)[..., None])[..., 0]
    centered = jnp.stack([-share[1], share[0]])
    wrong = jnp.max(jnp.abs(differences - common)) / largest
    return ClassDirections(
        weights=scale * weights,
        noise=jnp.where(blind, 1.0, root_or_zero(missing)),
        means=scale * centered,
        variances=1 + jnp.where(blind, 0.0, common / largest) * centered,
        exact=blind | (wrong < 1e3 * eps),
    )


def _plane(gap: Array, spread: Array) -> _Plane:
    length = jnp.sum(gap**2, -1)
    base = gap / length[..., None]
    identity = jnp.eye(gap.shape[-1], dtype=gap.dtype)
    across = identity - gap[..., :, None] * base[..., None, :]
    pulled = einsum("aij,aj->ai", spread, base)
    return _Plane(
        base=base,
        least=1 / length,
        offset=jnp.sum(base * pulled, -1),
        slope=einsum("aij,aj->ai", across, pulled),
        bend=symmetrize(matmul(matmul(across, spread), across)),
    )


def _curve(plane: _Plane) -> _Curve:
    bends, vectors = eigh(plane.bend)
    pulls = einsum("aji,aj->ai", vectors, plane.slope)
    eps = float(jnp.finfo(bends.dtype).eps)
    # The multiplier keeps I + multiplier * bend positive definite, by a margin.
    largest = eps**-0.5

    def end(extreme: Array):
        bent = extreme > 100 * eps
        return jnp.where(bent, (1 - eps**0.5) / jnp.where(bent, extreme, 1.0), largest)

    ends = jnp.stack([-end(bends[:, -1]), end(-bends[:, 0])])
    return _Curve(plane.offset, pulls, bends, plane.least, vectors, ends)


def _reached(curve: _Curve, multiplier: Array) -> tuple[Array, Array]:
    """Pooled variance and difference of variances at a multiplier, ``[G]`` each."""
    times = multiplier[:, None]
    scale = 1 + times * curve.bends
    cost = curve.least + jnp.sum((times * curve.pulls / scale) ** 2, -1)
    fall = curve.pulls**2 * times * (2 + times * curve.bends) / scale**2
    return cost, curve.offset - jnp.sum(fall, -1)


def _bisect(low: Array, high: Array, right: Callable[[Array], Array]) -> Array:
    """Bisect elementwise; `right` tells where the answer lies above the middle."""

    def halve(_, ends: tuple[Array, Array]):
        low, high = ends
        middle = 0.5 * (low + high)
        up = right(middle)
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    steps = jnp.finfo(low.dtype).nmant + 8
    low, high = jax.lax.fori_loop(0, steps, halve, (low, high))
    return jnp.where(jnp.abs(low) < jnp.abs(high), low, high)


def _multipliers(curve: _Curve, common: Array) -> Array:
    """Multipliers ``[G]`` at which the difference of variances is `common`.

    It falls as the multiplier grows. Bisects ``s = v / (1 + |v|)``, which resolves small
    multipliers as well as large ones.
    """
    squeezed = curve.ends / (1 + jnp.abs(curve.ends))

    def right(s: Array):
        _, difference = _reached(curve, s / (1 - jnp.abs(s)))
        return difference > common

    s = _bisect(squeezed[0], squeezed[1], right)
    return s / (1 - jnp.abs(s))


def _values(curve: _Curve, multiplier: Array, common: Array) -> Array:
    """``psi_a(common)``, in the dual form, which errors of the multiplier hardly touch.

    It also holds beyond the last multiplier, where the direction of the extreme bend
    makes up what is missing.
    """
    cost, difference = _reached(curve, multiplier)
    return cost + multiplier * (difference - common)


def _common(curve: _Curve) -> Array:
    """The difference of variances that costs the worst group least."""
    _, least = _reached(curve, curve.ends[1])
    _, most = _reached(curve, curve.ends[0])
    tolerance = 100 * float(jnp.finfo(least.dtype).eps)
    least = jnp.where(curve.bends[:, 0] < -tolerance, -jnp.inf, least)
    most = jnp.where(curve.bends[:, -1] > tolerance, jnp.inf, most)
    # Every psi falls left of all offsets and rises right of them.
    low = jnp.maximum(jnp.min(curve.offset), jnp.max(least))
    high = jnp.minimum(jnp.max(curve.offset), jnp.min(most))
    crossed = low > high
    middle = 0.5 * (low + high)
    low, high = jnp.where(crossed, middle, low), jnp.where(crossed, middle, high)

    def right(common: Array):
        multiplier = _multipliers(curve, common)
        worst = jnp.argmax(_values(curve, multiplier, common))
        return multiplier[worst] > 0

    return _bisect(low, high, right)


def _moves(plane: _Plane, multiplier: Array) -> tuple[Array, Array]:
    """Directions ``u [G, d]`` at a multiplier and their difference of variances."""
    identity = jnp.eye(plane.slope.shape[-1], dtype=plane.slope.dtype)
    times = multiplier[:, None, None]
    inner = identity + times * plane.bend
    extra = solve(inner, -times * plane.slope[..., None])[..., 0]
    # Rounding must not leave the plane: the mean difference is the same in all groups.
    outside = jnp.sum(extra * plane.base, -1, keepdims=True)
    extra = extra - plane.base * outside / plane.least[:, None]
    return extra, _difference(plane, extra)


def _difference(plane: _Plane, extra: Array) -> Array:
    bent = einsum("aij,aj->ai", plane.bend, extra)
    return plane.offset + jnp.sum(extra * (2 * plane.slope + bent), -1)


def _responsive(plane: _Plane, curve: _Curve, common: Array) -> tuple[Array, Array]:
    """Give the multipliers and the common difference their derivatives.

    By one Newton step each, of length 0, on the equations that define them.
    """
    multiplier = _multipliers(curve, common)
    extra, difference = _moves(plane, multiplier)
    value = plane.least + jnp.sum(extra**2, -1) + multiplier * (difference - common)
    order = jnp.argsort(-jax.lax.stop_gradient(value))
    first, second = order[0], order[1]
    tie = float(jnp.finfo(value.dtype).eps) ** 0.5 * value[first]
    opposed = multiplier[first] * multiplier[second] < 0
    crossing = opposed & (value[first] - value[second] < tie)
    rate = jnp.where(crossing, multiplier[first] - multiplier[second], 1.0)
    free = jnp.abs(multiplier[first]) < jnp.sqrt(tie / value[first])
    still = jnp.where(free, plane.offset[first], 0.0)
    step = jnp.where(crossing, (value[first] - value[second]) / rate, still)
    common = common + step - jax.lax.stop_gradient(step)
    scale = 1 + multiplier[:, None] * curve.bends
    fall = -2 * jnp.sum(curve.pulls**2 / scale**3, -1)
    steep = jnp.abs(fall) > float(jnp.finfo(value.dtype).eps)
    turn = jnp.where(steep, (common - difference) / jnp.where(steep, fall, 1.0), 0.0)
    return multiplier + turn - jax.lax.stop_gradient(turn), common


def _last_step(plane: _Plane, curve: _Curve, extra: Array, common: Array) -> Array:
    """What is missing to the common difference, along the extreme bend.

    Rounding, except where a group's mean difference has no part along that bend: then
    no multiplier reaches the common difference, and this is the solution's other part.
    """
    missing = common - _difference(plane, extra)
    side = jnp.where(missing > 0, curve.bends.shape[-1] - 1, 0)
    along = jnp.take_along_axis(curve.vectors, side[:, None, None], -1)[..., 0]
    bend = jnp.take_along_axis(curve.bends, side[:, None], -1)[:, 0]
    bent = einsum("aij,aj->ai", plane.bend, extra)
    half = jnp.sum(along * (plane.slope + bent), -1)
    root = jnp.sqrt(jnp.maximum(half**2 + bend * missing, 0))
    # The root of bend s^2 + 2 half s = missing nearer to 0.
    divisor = half + jnp.where(half < 0, -root, root)
    # Without a bend of the right sign the direction may leave the plane: the multiplier
    # alone must do, and if it does not the group has no such direction.
    tolerance = 100 * float(jnp.finfo(bend.dtype).eps)
    usable = (jnp.abs(bend) > tolerance) & (bend * missing > 0)
    size = jnp.where(usable, missing / jnp.where(usable, divisor, 1.0), 0.0)
    return size[:, None] * along
