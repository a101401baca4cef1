"""The largest Gram matrix below several: what every group can be degraded to.

Maximizes ``log det Z`` over symmetric ``Z <= A_a`` for every ``a`` (Loewner order), a
convex program with one solution: the ellipsoid of least volume around the ellipsoids of
the inverses. A primal-dual interior-point method solves it in coordinates where the
inverses sum to the identity; there ``(1/G) Z* <= I`` and ``det Z* >= 1``, whatever the
conditioning of the problem.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.linalg import (
    cholesky,
    cholesky_inverse,
    eigh,
    logdet_from_cholesky,
    matmul,
    solve,
    symmetrize,
    transpose,
)

MAX_STEPS = 80


def barrier_floor(dtype: np.dtype) -> float:
    """Where the barrier stops: below it a slack is a difference of rounded numbers."""
    return float(jnp.finfo(dtype).eps) ** 0.8


class LargestBelow(NamedTuple):
    """The solution of :func:`largest_below`.

    Attributes:
        gram: ``[m, m]`` the largest matrix, below every given one up to rounding.
        gap: ``[]`` the duality gap: ``log det`` of the maximum is at most this much
            larger.
        steps: ``[]`` Newton steps, int32.
    """

    gram: Float[Array, "m m"]
    gap: Float[Array, ""]
    steps: Array


class _Iterate(NamedTuple):
    gram: Array
    dual: Array
    shift: Array
    complement: Array
    residual: Array
    steps: Array


def _triangle(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the upper triangle and the weights of an orthonormal basis."""
    i, j = np.triu_indices(m)
    return i, j, np.where(i == j, 0.5, 0.5**0.5)


def _pack(a: Array) -> Array:
    """Coordinates ``[..., m (m + 1) / 2]`` of symmetric matrices."""
    i, j, scale = _triangle(a.shape[-1])
    return a[..., i, j] * jnp.asarray(2 * scale, a.dtype)


def _unpack(v: Array, m: int) -> Array:
    i, j, scale = _triangle(m)
    place = np.zeros((m, m), int)
    place[i, j] = place[j, i] = np.arange(i.size)
    return (v * jnp.asarray(0.5 / scale, v.dtype))[place]


def _sandwich(p: Array, q: Array) -> Array:
    """Matrix of ``x -> sym(p x q)`` in packed coordinates."""
    i, j, scale = _triangle(p.shape[-1])
    row, col = (i[:, None], j[:, None]), (i[None], j[None])

    def entry(left: tuple[np.ndarray, ...], right: tuple[np.ndarray, ...]):
        (a, b), (c, d) = left, right
        return p[..., a, c] * q[..., d, b] + p[..., b, c] * q[..., d, a]

    both = entry(row, col) + entry(row, col[::-1])
    return both * jnp.asarray(scale[:, None] * scale, p.dtype)


def _reach(factors: Array, moves: Array) -> Array:
    """Longest steps that keep PSD matrices ``L L'`` PSD, given ``L^-1``."""
    inner = matmul(matmul(factors, moves), transpose(factors))
    low = jnp.min(eigh(inner)[0], -1)
    return jnp.where(low < 0, -1 / jnp.where(low < 0, low, -1.0), jnp.inf)


def _residuals(roots: Array, gram: Array, dual: Array) -> tuple[Array, Array]:
    """Mean complementarity, and how far the dual's sum is from the inverse."""
    g, m = roots.shape[:2]
    identity = jnp.eye(m, dtype=roots.dtype)
    slack = identity - matmul(matmul(roots, gram), transpose(roots))
    price = jnp.sum(matmul(matmul(transpose(roots), dual), roots), 0)
    complement = jnp.trace(jnp.sum(matmul(dual, slack), 0)) / (g * m)
    return complement, jnp.max(jnp.abs(matmul(gram, price) - identity))


def _step(roots: Array, now: _Iterate) -> _Iterate:
    """One Newton step on ``Z^-1 = sum R' U R``, ``U (I - R Z R') = mu I``."""
    g, m = roots.shape[:2]
    back = transpose(roots)
    identity = jnp.eye(m, dtype=roots.dtype)
    slack = identity - matmul(matmul(roots, now.gram), back)
    stack = jnp.concatenate([now.gram[None], slack, now.dual])
    _, inner = cholesky_inverse(stack)
    inverse = matmul(transpose(inner[: g + 1]), inner[: g + 1])
    own, barrier = inverse[0], matmul(matmul(back, inverse[1:]), roots)
    mu = jnp.maximum(now.shift * now.complement, barrier_floor(roots.dtype))
    price = matmul(matmul(back, now.dual), roots)
    crossed = _sandwich(price, barrier)
    # Half of each order makes the system symmetric.
    hessian = _sandwich(own, own) + jnp.sum(0.5 * (crossed + transpose(crossed)), 0)
    slope = own - mu * jnp.sum(barrier, 0)
    move = _unpack(solve(hessian, _pack(slope)[:, None])[:, 0], m)
    tighten = -matmul(matmul(roots, move), back)
    turn = matmul(matmul(now.dual, tighten), inverse[1:])
    dual_move = mu * inverse[1:] - now.dual - symmetrize(turn)
    reach = 0.95 * _reach(inner, jnp.concatenate([move[None], tighten, dual_move]))
    ahead = jnp.minimum(1.0, jnp.min(reach[: g + 1]))
    dual_ahead = jnp.minimum(1.0, jnp.min(reach[g + 1 :]))
    gram = symmetrize(now.gram + ahead * move)
    dual = symmetrize(now.dual + dual_ahead * dual_move)
    least = jnp.minimum(ahead, dual_ahead)
    # A step cut short means that the iterate is off the center: aim nearer.
    shift = jnp.where(least > 0.9, 0.03, jnp.where(least > 0.5, 0.2, 0.8))
    return _Iterate(
        gram, dual, shift.astype(gram.dtype), *_residuals(roots, gram, dual),
        now.steps + 1,
    )  # fmt: skip


def _search(roots: Array) -> _Iterate:
    eps = float(jnp.finfo(roots.dtype).eps)
    m = roots.shape[-1]
    # No root is longer than 1, so the start has half of every slack left; its dual is
    # centered for mu = 1/2 up to the spread of the roots.
    gram = 0.5 * jnp.eye(m, dtype=roots.dtype)
    dual = jnp.broadcast_to(2 * gram, roots.shape)
    start = _Iterate(
        gram, dual, jnp.asarray(0.5, gram.dtype), *_residuals(roots, gram, dual),
        jnp.zeros((), jnp.int32),
    )  # fmt: skip

    near, settled = 2 * barrier_floor(roots.dtype), min(eps**0.5, 1e4 * eps)

    def unfinished(state: tuple[_Iterate, Array]):
        now, moved = state
        done = (now.complement < near) & (now.residual < settled)
        return ~done & moved & (now.steps < MAX_STEPS)

    def advance(state: tuple[_Iterate, Array]):
        now, _ = state
        new = _step(roots, now)
        # Rounding can end the search at the edge: keep the last point inside.
        inside = jnp.isfinite(new.residual) & jnp.isfinite(new.complement)
        kept = jax.tree.map(lambda a, b: jnp.where(inside, a, b), new, now)
        return kept, inside

    end, _ = jax.lax.while_loop(unfinished, advance, (start, jnp.array(True)))
    return end


@jax.custom_jvp
def _attach(roots: Array, gram: Array, dual: Array) -> Array:
    """Return `gram`, with the derivative of the solution in `roots`."""
    return gram


@_attach.defjvp
def _attach_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]):
    roots, gram, dual = primals
    moved = tangents[0]
    back = transpose(roots)
    m = gram.shape[-1]
    identity = jnp.eye(m, dtype=gram.dtype)
    slack = symmetrize(identity - matmul(matmul(roots, gram), back))
    # The inverse of the solution, and the frames of the slacks.
    values, vectors = eigh(jnp.concatenate([gram[None], slack]))
    own = matmul(vectors[0] / values[0], transpose(vectors[0]))
    slacks, frames = jnp.maximum(values[1:], 0), vectors[1:]
    turned = matmul(matmul(transpose(frames), dual), frames)
    prices = jnp.maximum(jnp.diagonal(turned, axis1=-2, axis2=-1), 0)
    # Complementarity: between two binding directions the slack stays 0 (a stiff spring
    # stands for that), between two free ones the price does.
    soft = float(jnp.finfo(gram.dtype).eps) ** 0.5
    high = jnp.maximum(prices[..., :, None], prices[..., None, :])
    wide = jnp.maximum(slacks[..., :, None], slacks[..., None, :])
    spring = high / (wide + soft)
    frame = matmul(back, frames)

    def respond(x: Array):
        inner = spring * matmul(matmul(transpose(frames), x), frames)
        return jnp.sum(matmul(matmul(frame, inner), transpose(frame)), 0)

    pull = _sandwich(transpose(frame), frame)
    weighed = matmul(transpose(pull) * _weights(spring)[..., None, :], pull)
    hessian = _sandwich(own, own) + jnp.sum(weighed, 0)
    direct = jnp.sum(matmul(back, matmul(dual, moved)), 0)
    looser = matmul(matmul(moved, gram), back)
    force = direct + transpose(direct) + respond(looser + transpose(looser))
    return gram, -_unpack(solve(hessian, _pack(force)[:, None])[:, 0], m)


def _weights(spring: Array) -> Array:
    i, j, _ = _triangle(spring.shape[-1])
    return spring[..., i, j]


def largest_below(roots: Float[Array, "G m m"]) -> LargestBelow:
    """Maximize ``log det Z`` subject to ``Z <= (R_a' R_a)^-1`` for every ``a``.

    Feasible to rounding whatever the number of steps: a last scaling makes the tightest
    bound binding. Differentiable once in `roots`, by the implicit function theorem;
    where a bound is only just binding the solution has a kink, and the derivative lies
    between those of both sides. Cost O(G m^4 + m^6) for each of about 20 steps.

    Args:
        roots: ``[G, m, m]`` square factors ``R_a`` of the inverses of the bounds, with
            ``sum_a R_a' R_a = I``.

    Returns:
        The maximum, its duality gap in nats of ``log det``, and the steps.
    """
    fixed = jax.lax.stop_gradient(roots)
    m = roots.shape[-1]
    end = _search(fixed)
    back = transpose(fixed)
    price = jnp.sum(matmul(matmul(back, end.dual), fixed), 0)
    lower = cholesky(jnp.stack([end.gram, price]))
    bound = matmul(matmul(transpose(lower[0]), matmul(back, fixed)), lower[0])
    size = jnp.max(eigh(bound)[0])
    dual_value = jnp.trace(jnp.sum(end.dual, 0)) - m
    gap = dual_value - jnp.sum(logdet_from_cholesky(lower)) + m * jnp.log(size)
    return LargestBelow(_attach(roots, end.gram / size, end.dual), gap, end.steps)
