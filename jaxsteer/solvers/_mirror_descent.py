"""Mirror descent on the probability simplex: multiplicative updates."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxsteer.solvers._projected_gradient import (
    GROWTH,
    HALVINGS,
    at_fixed_point,
    norm,
    projected_residual,
)
from jaxsteer.solvers._solution import (
    Solution,
    default_tolerance,
    final_status,
    new_trace,
    record,
)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def mirror_descent(
    fn, projection, max_steps, tolerance, differentiate, trace, start, args
) -> Solution:
    """Iterate ``p <- p exp(-s grad fn(p)) / sum``, with backtracking on ``s``.

    A size is short enough when ``fn(new) <= fn(p) + <grad, new - p> + KL(new || p) / s``.
    The iterate is kept as logits, so that entries near 0 keep their relative precision.

    References:
        Nemirovski and Yudin 1983; Beck and Teboulle 2003, "Mirror descent and nonlinear
        projected subgradient methods for convex optimization".
    """
    fixed = jax.lax.stop_gradient(args)
    dtype = start.dtype
    eps = float(jnp.finfo(dtype).eps)
    limit = default_tolerance(dtype) if tolerance is None else tolerance
    unroll = differentiate == "unroll"
    # From a zero there is no way back: the start is moved a little inside.
    first = projection(jax.lax.stop_gradient(start))
    logits = jnp.log(jnp.maximum(first, eps**0.5 / start.size))
    logits = jnp.where(jnp.isnan(first), jnp.nan, logits)
    value, slope = jax.value_and_grad(fn)(jax.nn.softmax(logits), fixed)
    scale = 1.0 + norm(slope)
    broken = ~(jnp.isfinite(value) & jnp.isfinite(scale))
    state = {
        "logits": logits,
        "size": 1.0 / jnp.where(broken, 1.0, scale),
        "grow": jnp.asarray(False),
        "steps": jnp.zeros((), jnp.int32),
        "trace": new_trace(max_steps, dtype, trace),
        "certificate": jnp.asarray(jnp.inf, dtype),
        "broken": broken,
        "done": broken,
    }

    def search(logits, value, slope, size):
        before = jax.nn.log_softmax(logits)
        p = jnp.exp(before)
        noise = 10 * eps * (jnp.abs(value) + norm(slope))

        def unfinished(trial):
            return ~trial["found"] & (trial["count"] < HALVINGS)

        def body(trial):
            size = jnp.where(trial["count"] == 0, trial["size"], 0.5 * trial["size"])
            after = jax.nn.log_softmax(logits - size * slope)
            new = jnp.exp(after)
            distance = jnp.sum(new * (after - before)) / size
            bound = value + jnp.sum(slope * (new - p)) + distance + noise
            # As in the projected gradient: what cannot be seen is no reason to halve.
            reached, visible = fn(new, fixed), distance > noise
            return {
                "size": size,
                "found": (reached <= bound) | (~visible & jnp.isfinite(reached)),
                "visible": visible,
                "count": trial["count"] + 1,
            }

        trial = {
            "size": size,
            "found": jnp.asarray(False),
            "visible": jnp.asarray(False),
            "count": jnp.zeros((), jnp.int32),
        }
        return jax.lax.while_loop(unfinished, body, trial)

    def step(state, args):
        logits = state["logits"]
        p = jax.nn.softmax(logits)
        value, slope = jax.value_and_grad(fn)(p, args)
        size = state["size"] * jnp.where(state["grow"], GROWTH, 1.0)
        trial = search(*jax.lax.stop_gradient((logits, value, slope, size)))
        descends = trial["found"]
        size = jnp.where(descends, trial["size"], state["size"])
        still, steep = jax.lax.stop_gradient((p, slope))
        residual = norm(projection(still - size * steep) - still) / size / scale
        finite = jnp.isfinite(residual)
        solved = (residual <= limit) & (not unroll)
        moved = jax.nn.log_softmax(logits - size * slope)
        return {
            "logits": jnp.where(descends & finite & ~solved, moved, logits),
            "size": size,
            "grow": trial["visible"] & (trial["count"] == 1),
            "steps": state["steps"] + jnp.where(solved, 0, 1),
            "trace": record(state["trace"], state["steps"], residual),
            "certificate": jnp.where(solved, residual, state["certificate"]),
            "broken": ~finite,
            "done": solved | ~(finite & descends),
        }

    if unroll:

        def forward(state, _):
            new = step(state, args)
            keep = state["broken"]
            return jax.tree.map(partial(jnp.where, keep), state, new), None

        end, _ = jax.lax.scan(forward, state, None, length=max_steps)
    else:
        end = jax.lax.while_loop(
            lambda state: ~state["done"] & (state["steps"] < max_steps),
            lambda state: step(state, fixed),
            state,
        )
    x = jax.nn.softmax(end["logits"])
    size = jax.lax.stop_gradient(end["size"])
    residual = projected_residual(fn, projection, x, fixed, size, scale)
    residual = jnp.minimum(residual, end["certificate"])
    residual = jnp.where(end["broken"], jnp.nan, residual)
    if not unroll:
        x = at_fixed_point(fn, projection, x, args, size, differentiate)
    return Solution(
        x=x,
        value=fn(x, fixed if differentiate == "none" else args),
        residual=residual,
        status=final_status(residual, limit, end["steps"], max_steps),
        steps=end["steps"],
        trace=jax.lax.stop_gradient(end["trace"]),
    )
