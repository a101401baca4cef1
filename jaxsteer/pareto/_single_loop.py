"""BADR-GD and BADR-SGD: model, adjoint and group weights move together."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Scalar
from jaxsteer.pareto._exact import STATIC, UpperEnd
from jaxsteer.pareto._hypergradient import (
    Problem,
    best_starts,
    hypergradient,
    smooth_metric,
    tangent,
)
from jaxsteer.pareto._lower_level import DENSE, solve_factored
from jaxsteer.pareto._model import group_losses, weighted_loss
from jaxsteer.pareto._solution import History
from jaxsteer.pareto._spectral import projected_residual, slope_scale
from jaxsteer.solvers import project_simplex


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How ``method="gd"`` and ``method="sgd"`` iterate.

    With the loss ``L = sum_a lambda_a F_a`` of a batch, its gradients ``g_a`` and its
    Hessian ``H``, all three move at once, every step with its own size::

        w      <- w - step_w P grad L
        v      <- v - step_v P (H v + grad Fair)
        lambda <- project(lambda - step_lambda clip(h) / sqrt(sum |h|^2)),  h_a = <g_a, v>

    ``P`` is the inverse Hessian at the last check where there are few parameters (1
    above, and with ``precondition=False``), so that steps of order 1 suit any data. The sum
    runs over all hypergradients so far, the exact one of the start among them (with
    ``adaptive=False`` it is the start's alone), so `step_lambda` is in units of group
    weight. It is the smallest of the three, or the weights run ahead of the adjoint.

    Every `check_every` steps the averaged group weights are judged as they will be
    used: the model is refitted to them on all rows. The walk goes on from there, with
    the exact adjoint. The best weights are kept, so no answer is worse than the start.

    Step sizes, clip, decay, patience and tolerance compile nothing anew; the others do.

    Attributes:
        max_steps: Limit on steps.
        check_every: Steps between two checks.
        tolerance: Residual at a check that counts as converged.
        patience: Checks without a new best after which it stops.
        step_w: Step size of the model.
        step_v: Step size of the adjoint.
        step_lambda: Step size of the group weights.
        decay: After ``t`` steps all sizes are divided by ``(1 + t / check_every)^decay``;
            None takes 1/2 for "sgd" and 0 for "gd", which has no noise to average.
        clip: Longest hypergradient, in units of that of the start.
        batch_size: Rows of a batch, the same number of every group; "sgd" only.
        metric_rows: Rows of the batch for the metric's gradient, which is biased by one
            over their number; "sgd" only.
        probes: Where no start is given: points of the simplex that are judged on a
            sample of `metric_rows` rows, and the best two of them, far apart, on all
            rows; the walk begins at the better one, or at equal weights if these are
            better still. 0 begins at equal weights.
        adaptive: Whether the steps of the group weights shrink with the
            hypergradients so far.
        precondition: Whether to use the inverse Hessian.

    Example:
        >>> LoopOptions(max_steps=200, batch_size=256).max_steps
        200

    References:
        Dagreou, Ablin, Vaiter and Moreau 2022, "A framework for bilevel optimization
        that enables stochastic and global variance reduction algorithms"; Ward, Wu and
        Bottou 2019, "AdaGrad stepsizes".
    """

    max_steps: int = dataclasses.field(default=1000, metadata=STATIC)
    check_every: int = dataclasses.field(default=50, metadata=STATIC)
    tolerance: Scalar = 1e-2
    patience: Scalar = 6
    step_w: Scalar = 0.5
    step_v: Scalar = 0.5
    step_lambda: Scalar = 0.1
    decay: Scalar | None = None
    clip: Scalar = 5.0
    batch_size: int = dataclasses.field(default=1024, metadata=STATIC)
    metric_rows: int = dataclasses.field(default=4096, metadata=STATIC)
    probes: int = dataclasses.field(default=8, metadata=STATIC)
    adaptive: bool = dataclasses.field(default=True, metadata=STATIC)
    precondition: bool = dataclasses.field(default=True, metadata=STATIC)


class Walk(NamedTuple):
    """State of the recursion."""

    w: Float[Array, " p"]
    v: Float[Array, " p"]
    group_weights: Float[Array, " G"]
    squares: Float[Array, ""]
    mean: Float[Array, " G"]  # of the group weights since the last check


def solve_single_loop(
    problem: Problem,
    start: Float[Array, " G"],
    theta: Float[Array, " p"],
    options: LoopOptions,
    key: Array | None,
    *,
    probe: bool,
) -> tuple[UpperEnd, Float[Array, ""]]:
    """Iterate; the value at `start` is returned beside the best point.

    Args:
        problem: What is solved.
        start: ``[G]`` first group weights.
        theta: ``[p]`` where the fit at the start begins.
        options: How.
        key: Where in the rows to begin; None takes all rows in every step ("gd").
        probe: Whether to look for a better start.
    """
    data, model = problem.data, problem.model
    groups = data.n_groups
    offset = jnp.zeros_like(data.count)
    decay = options.decay
    if decay is None:
        decay = 0.0 if key is None else 0.5
    if key is not None:
        offset = jax.random.randint(key, (groups,), 0, data.count)
    dense = theta.shape[0] <= DENSE and options.precondition

    def rows(size: int, count: Array) -> Problem:
        each = max(size // groups, 1)
        if key is None or each * groups >= data.target.shape[0]:
            return problem
        begin = (offset + count * each) % data.count
        return dataclasses.replace(problem, data=data.batch(each, begin))

    def step(count: Array, walk: Walk, unit: Array, factor: Array) -> Walk:
        precondition = partial(solve_factored, factor) if dense else lambda r: r
        part = rows(options.batch_size, count)
        weights = walk.group_weights

        def slope(w: Array) -> Array:
            return jax.grad(weighted_loss, argnums=1)(model, w, part.data, weights)

        down, curved = jax.jvp(slope, (walk.w,), (walk.v,))
        losses = partial(group_losses, model, data=part.data)
        h = tangent(jax.jvp(losses, (walk.w,), (walk.v,))[1])
        push = jax.grad(smooth_metric)(walk.w, rows(options.metric_rows, count))
        size = jnp.sqrt(jnp.sum(h**2))
        longest = options.clip * unit
        h = h * jnp.minimum(1.0, longest / jnp.maximum(size, longest))
        squares = walk.squares + jnp.sum(h**2)
        fade = (1.0 + count / options.check_every) ** -decay
        past = jnp.sqrt(squares) if options.adaptive else unit
        length = options.step_lambda * fade / past
        moved = project_simplex(weights - length * h)
        since = count % options.check_every
        return Walk(
            w=walk.w - options.step_w * fade * precondition(down),
            v=walk.v - options.step_v * fade * precondition(curved + push),
            group_weights=moved,
            squares=squares,
            mean=(walk.mean * since + moved) / (since + 1),
        )

    # The first check judges the start, the next ones the best two probes.
    looked = start[None]
    if probe and options.probes:
        probes = best_starts(
            problem, theta, count=options.probes, rows=options.metric_rows
        )
        looked = jnp.concatenate([looked, probes])
    looks = len(looked)
    checks = -(-options.max_steps // options.check_every)
    real, p = start.dtype, theta.shape[0]
    zero = jnp.zeros((), real)
    state = {
        "walk": Walk(theta, jnp.zeros_like(theta), start, zero, start),
        "best": (start, theta, jnp.asarray(jnp.inf, real), jnp.asarray(jnp.nan, real)),
        "unit": zero,
        "factor": jnp.eye(p, dtype=real) if dense else None,
        "start_value": zero,
        "history": History.empty(checks + looks, groups, real),
        "check": jnp.zeros((), jnp.int32),
        "idle": jnp.zeros((), jnp.int32),
        "done": jnp.asarray(False),
    }

    def check(state: dict[str, Any]) -> dict[str, Any]:
        """Walk on to the next check."""
        number, begins = state["check"], state["check"] == 0
        still = number < looks
        until = jnp.maximum(number - looks + 1, 0) * options.check_every
        walk = jax.lax.fori_loop(
            jnp.where(still, until, until - options.check_every),
            until,
            partial(step, unit=state["unit"], factor=state["factor"]),
            state["walk"],
        )
        look = looked[jnp.minimum(number, looks - 1)]
        mean = jnp.where(still, look, project_simplex(walk.mean))
        found = hypergradient(mean, walk.w, problem)
        choose = partial(jnp.where, begins)
        unit = choose(slope_scale(found.slope), state["unit"])
        squares = choose(unit**2, walk.squares)
        first = Walk(found.theta, -found.adjoint, mean, squares, mean)
        residual = projected_residual(mean, found.slope, unit)
        better = found.value < state["best"][2]
        # From the exact model and adjoint on, but not from a probe that is no better.
        goes_on = ~still | better
        walk = jax.tree.map(partial(jnp.where, goes_on), first, walk)
        end = (mean, found.theta, found.value, residual)
        best = jax.tree.map(partial(jnp.where, better), end, state["best"])
        idle = jnp.where(better | still, 0, state["idle"] + 1)
        finite = jnp.isfinite(found.value) & jnp.all(jnp.isfinite(walk.w))
        solved = (number >= looks - 1) & (best[3] <= options.tolerance)
        return {
            "walk": walk,
            "best": best,
            "unit": unit,
            "factor": jax.tree.map(
                partial(jnp.where, goes_on),
                found.factor if dense else None,
                state["factor"],
            ),
            "start_value": choose(found.value, state["start_value"]),
            "history": state["history"].write(
                number, until, found.value, mean, residual
            ),
            "check": number + 1,
            "idle": idle,
            "done": solved | ~finite | (idle >= options.patience),
        }

    end = jax.lax.while_loop(
        lambda s: ~s["done"] & (s["check"] < checks + looks), check, state
    )
    steps = jnp.maximum(end["check"] - looks, 0) * options.check_every
    weights, theta, value, residual = end["best"]
    best = UpperEnd(weights, theta, value, residual, steps, end["history"])
    return best, end["start_value"]
