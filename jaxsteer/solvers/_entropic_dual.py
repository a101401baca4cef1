"""The entropic kernel's dual: damped Newton along a path, and its derivatives.

The unknowns ``[2, T]`` are ``(u_t + v_t s_t, v_t)``; they minimize

    sum_b w_b logsumexp_t(bias_bt + u_t + v_t r_b) - sum_t m_t (u_t + v_t s_t),

the gradient of which is what the kernel delivers less what is asked for. Temperature and
margin are lowered together, by one Newton step each as long as that is nearly exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._types import Array
from jaxsteer.linalg import einsum, matmul, solve, solve_positive_definite

# The path: where it starts, how fast it runs, and how near (by the Newton decrement, in
# nats) a step must have come before the next one.
START_TEMPERATURE = 0.3
START_MARGIN = 0.5
RATE = 0.5
NEAR = 0.1
# Steps at one point of the path after which a run has stalled; one that moves nothing, or
# comes no nearer at the path's end, counts as five.
PATIENCE = 40


class Program(NamedTuple):
    """One smoothed program.

    Attributes:
        mass: ``[B]`` row masses ``w``.
        rate: ``[B]`` posteriors ``r`` of the rows.
        cost: ``[B, T]`` what it costs to move.
        goal_mass: ``[T]`` atom masses ``m``; 0 leaves an atom out.
        goal_rate: ``[T]`` posteriors ``s`` of the atoms before dilution.
        base_rate: ``[]`` posterior of everything, to which dilution pulls.
        temperature: ``[]`` weight of the entropy.
        margin: ``[]`` share of dilution.
    """

    mass: Array
    rate: Array
    cost: Array
    goal_mass: Array
    goal_rate: Array
    base_rate: Array
    temperature: Array
    margin: Array


class Path(NamedTuple):
    """Where a run stands; `best` is the least residual at the path's end so far."""

    dual: Array
    temperature: Array
    margin: Array
    damping: Array
    residual: Array
    best: Array
    idle: Array
    steps: Array


def diluted_rate(program: Program) -> Array:
    """Posteriors of the diluted atoms."""
    return program.base_rate + (1 - program.margin) * (
        program.goal_rate - program.base_rate
    )


def _log_kernel(dual: Array, program: Program) -> Array:
    """Logarithm of the kernel; an atom without mass gets nothing."""
    away = program.rate[:, None] - diluted_rate(program)
    logits = dual[0] + dual[1] * away - program.cost / program.temperature
    return jax.nn.log_softmax(jnp.where(program.goal_mass > 0, logits, -jnp.inf), -1)


def kernel_of(dual: Array, program: Program) -> Array:
    """Kernel of the unknowns, ``[B, T]`` with rows on the simplex."""
    return jnp.exp(_log_kernel(dual, program))


def slope_of(dual: Array, program: Program) -> Array:
    """Gradient of the dual, ``[2, T]``: excess mass, and excess of class 1 in it."""
    coupling = program.mass[:, None] * kernel_of(dual, program)
    away = program.rate[:, None] - diluted_rate(program)
    return jnp.stack(
        [jnp.sum(coupling, 0) - program.goal_mass, jnp.sum(coupling * away, 0)]
    )


def _gauge(program: Program) -> Array:
    """Two orthonormal directions of the dual that leave the kernel as it is."""
    alive = (program.goal_mass > 0).astype(program.cost.dtype)
    first = jnp.stack([alive, jnp.zeros_like(alive)])
    first = first / jnp.linalg.norm(first)
    second = jnp.stack([alive * diluted_rate(program), alive])
    second = second - jnp.sum(first * second) * first
    return jnp.stack([first, second / jnp.linalg.norm(second)])


def _along(directions: Array, dual: Array) -> Array:
    return einsum("k,kij->ij", einsum("kij,ij->k", directions, dual), directions)


def _direction(
    kernel: Array, program: Program, damping: Array
) -> tuple[Array, Array, Array]:
    """Newton step of the unknowns, that of the logits, and the decrement.

    In coordinates centered at each atom's present posterior the Hessian is diagonal less
    one rank-one term a row, so that a ``B x B`` system is left.
    """
    eps = float(jnp.finfo(kernel.dtype).eps)
    mass, rate, goal = program.mass, program.rate, diluted_rate(program)
    root = jnp.sqrt(mass)
    coupling = mass[:, None] * kernel
    column = jnp.sum(coupling, 0)
    alive = (column > 0) & (program.goal_mass > 0)
    safe = jnp.where(alive, column, 1.0)
    center = jnp.where(alive, matmul(rate, coupling) / safe, goal)
    away = rate[:, None] - center
    spread = jnp.sum(coupling * jnp.square(away), 0)
    # Below this spread, what a posterior's rounding adds to the decrement would show.
    floor = damping * jnp.sum(spread) + 0.1 * eps
    weight = (1 + damping) * jnp.stack([safe, spread]) + jnp.stack(
        [jnp.zeros_like(safe), floor * safe]
    )
    slope = jnp.stack([column - program.goal_mass, program.goal_mass * (center - goal)])
    # The rows' rank-one terms, scaled to a unit diagonal.
    scale = jnp.sqrt(weight)
    terms = (root[:, None, None] * kernel[:, None, :]) * jnp.stack(
        [jnp.ones_like(away), away], 1
    )
    flat = (terms / scale).reshape(len(mass), -1)
    contrast = root * (rate - jnp.sum(mass * rate))
    length = jnp.linalg.norm(contrast)
    contrast = jnp.where(length > 100 * eps, contrast / length, 0.0)
    inner = jnp.eye(len(mass), dtype=kernel.dtype) - matmul(flat, flat.T)
    # Two directions are null by the gauge; the right-hand side is orthogonal to them.
    inner = inner + jnp.outer(root, root) + jnp.outer(contrast, contrast)
    wanted = -slope / scale
    rows = solve_positive_definite(inner, matmul(flat, wanted.reshape(-1)))
    step = (wanted + matmul(rows, flat).reshape(2, -1)) / scale
    step = jnp.where(alive, step, 0.0)
    moved = step[0] + step[1] * away
    decrement = -jnp.sum(step * slope)
    return step.at[0].add(step[1] * (goal - center)), moved, decrement


def _step_length(
    logs: Array, program: Program, step: Array, moved: Array, decrement: Array
) -> Array:
    """Largest of 1, 0.4, 0.16, ... that lowers the dual enough; 0 if none does."""
    eps = float(jnp.finfo(logs.dtype).eps)
    # Below this a change of value is rounding, and Newton's model is exact.
    sure = jnp.abs(decrement) < 1e3 * eps

    def lowers(length: Array):
        # Logarithms: an entry that has vanished may be the one that grows.
        grown = jax.nn.logsumexp(logs + length * moved, -1)
        asked = jnp.sum(program.goal_mass * step[0])
        value = jnp.sum(program.mass * grown) - length * asked
        return sure | (value <= -0.1 * length * decrement)

    def shorten(state: tuple[Array, Array]):
        length, _ = state
        return 0.4 * length, lowers(0.4 * length)

    one = jnp.ones((), logs.dtype)
    length, found = jax.lax.while_loop(
        lambda state: ~state[1] & (state[0] > 1e-3), shorten, (one, lowers(one))
    )
    usable = found & jnp.all(jnp.isfinite(step)) & jnp.isfinite(decrement)
    return jnp.where(usable, length, 0.0)


def _advance(path: Path, program: Program) -> Path:
    """One Newton step, and one along the path if that was nearly exact."""
    eps = float(jnp.finfo(path.dual.dtype).eps)
    here = program._replace(temperature=path.temperature, margin=path.margin)
    logs = _log_kernel(path.dual, here)
    step, moved, decrement = _direction(jnp.exp(logs), here, path.damping)
    length = _step_length(logs, here, step, moved, decrement)
    usable = length > 0
    dual = jnp.where(usable, path.dual + length * step, path.dual)
    # Rounding can make the system indefinite: damp, and try again.
    damping = jnp.where(
        usable, jnp.maximum(0.1 * path.damping, 10 * eps), 100 * path.damping
    )
    last = (path.temperature <= program.temperature) & (path.margin <= program.margin)
    onward = (length == 1) & (decrement < NEAR) & ~last
    cooler = jnp.maximum(program.temperature, RATE * path.temperature)
    tighter = RATE * path.margin
    tighter = jnp.where(
        tighter > jnp.maximum(program.margin, eps), tighter, program.margin
    )
    next_ = here._replace(
        temperature=jnp.where(onward, cooler, path.temperature),
        margin=jnp.where(onward, tighter, path.margin),
    )
    # The same kernel in the next program's coordinates, but for the change of cost.
    shift = diluted_rate(next_) - diluted_rate(here)
    dual = dual.at[0].add(dual[1] * shift) * (path.temperature / next_.temperature)
    size = jnp.max(jnp.abs(slope_of(dual, next_)))
    residual = jnp.where(last, size, jnp.inf)
    progress = (residual < 0.9 * path.best) | onward
    waited = path.idle + jnp.where(usable & ~last, 1, 5)
    return Path(
        dual=dual,
        temperature=next_.temperature,
        margin=next_.margin,
        damping=damping,
        residual=residual,
        best=jnp.minimum(path.best, residual),
        idle=jnp.where(progress, 0, waited),
        steps=path.steps + 1,
    )


def _tangent_solve(linear: Callable[[Array], Array], y: Array) -> Array:
    """Solve by the dense matrix, scaled to a unit diagonal and damped by rounding.

    The damping only matters where a posterior is the same in all rows, which leaves the
    second unknowns without meaning.
    """
    size = y.size
    eps = float(jnp.finfo(y.dtype).eps)
    flat = jax.jacobian(lambda v: linear(v.reshape(y.shape)).reshape(-1))(
        jnp.zeros(size, y.dtype)
    )
    diagonal = jnp.diag(flat)
    scale = jnp.where(diagonal > eps**2, jnp.sqrt(jnp.abs(diagonal)), 1.0)
    matrix = flat / scale[:, None] / scale + eps * jnp.eye(size, dtype=y.dtype)
    found = solve(matrix, (y.reshape(-1) / scale)[:, None])[:, 0]
    return (found / scale).reshape(y.shape)


def solve_dual(
    program: Program, feasible: Array, *, max_steps: int
) -> tuple[Array, Array, Array, Array]:
    """Minimize the dual.

    Args:
        program: What is asked for; derivatives with respect to it are implicit.
        feasible: ``[]`` bool; False takes no step.
        max_steps: Step limit.

    Returns:
        The unknowns ``[2, T]``, and as floats (data of the run, without derivatives) the
        residual, the steps, and whether the run stalled.
    """
    fixed = jax.lax.stop_gradient(program)
    dtype = fixed.cost.dtype
    eps = float(jnp.finfo(dtype).eps)

    def optimality(dual: Array):
        return slope_of(dual, program) + _along(_gauge(program), dual)

    # The logits are of order 1 / temperature, and so is their rounding.
    limit = eps * (20 + 0.002 / fixed.temperature)

    def unfinished(path: Path):
        rough = (path.residual > limit) & (path.idle < PATIENCE)
        return feasible & rough & (path.steps < max_steps)

    def run(_, dual: Array):
        start = Path(
            dual=dual,
            temperature=jnp.maximum(fixed.temperature, START_TEMPERATURE),
            margin=jnp.maximum(fixed.margin, START_MARGIN),
            damping=jnp.asarray(10 * eps, dtype),
            residual=jnp.asarray(jnp.inf, dtype),
            best=jnp.asarray(jnp.inf, dtype),
            idle=jnp.asarray(0, jnp.int32),
            steps=jnp.asarray(0, jnp.int32),
        )
        path = jax.lax.while_loop(unfinished, lambda p: _advance(p, fixed), start)
        dual = path.dual - _along(_gauge(fixed), path.dual)
        # What comes beside the root must be of floating point.
        steps, stalled = path.steps.astype(dtype), (path.idle >= PATIENCE).astype(dtype)
        return dual, (path.residual, steps, stalled)

    dual, data = jax.lax.custom_root(
        optimality, jnp.zeros((2, fixed.cost.shape[1]), dtype), run, _tangent_solve,
        has_aux=True,
    )  # fmt: skip
    return dual, *jax.lax.stop_gradient(data)
