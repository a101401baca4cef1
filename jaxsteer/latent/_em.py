"""EM for the ROME mixture: one start, batched over starts with ``vmap``."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._chunks import map_in_chunks
from jaxsteer._errors import check_choice, check_codes
from jaxsteer._types import Array, Float, Int, Key
from jaxsteer.latent._design import Design
from jaxsteer.latent._logistic import one_vs_rest_step, softmax_step
from jaxsteer.latent._outcomes import Outcome, Params
from jaxsteer.linalg import matmul, transpose

STARTS = ("partition", "labels")
SURE = 0.9  # how much of a row its first group gets


def soften(labels: Array, n_groups: int, dtype: Any) -> Float[Array, "G n"]:
    """Responsibilities that mostly, not wholly, follow the labels."""
    hot = jax.nn.one_hot(labels, n_groups, dtype=dtype, axis=0)
    return SURE * hot + (1 - SURE) / n_groups


@partial(jax.jit, static_argnames=("kind", "n_groups", "restarts"))
def draw_starts(
    key: Key[Array, ""],
    rows: Float[Array, "n m"],
    *,
    kind: str,
    n_groups: int,
    restarts: int,
) -> Float[Array, "R G n"]:
    """Draw starts: cells around random rows of the membership columns, or labels.

    Cells follow the columns that tell the groups apart, so that the first regressions
    differ; labels drawn for each row leave every group with nearly the pooled fit.
    """
    n = rows.shape[0]

    def one(key: Array):
        if kind == "labels":
            labels = jax.random.randint(key, (n,), 0, n_groups)
        else:
            centers = rows[jax.random.choice(key, n, (n_groups,), replace=False)]
            far = jnp.sum(centers**2, 1)[:, None]
            labels = jnp.argmin(far - 2 * matmul(centers, transpose(rows)), 0)
        return soften(labels, n_groups, rows.dtype)

    return jax.vmap(one)(jax.random.split(key, restarts))


def given_start(init: Any, n: int, n_groups: int, dtype: Any) -> Float[Array, "1 G n"]:
    """A start from labels ``[n]`` or responsibilities ``[n, G]``.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(init, str):
        check_choice("init", init, STARTS)
    shape = np.shape(init)
    if shape == (n,):
        check_codes("init", init, n_groups)
        return soften(jnp.asarray(init), n_groups, dtype)[None]
    if shape != (n, n_groups):
        raise ValueError(
            f"init must be 'partition', 'labels', group codes [n] or responsibilities "
            f"[n, G] = [{n}, {n_groups}], got shape {list(shape)}."
        )
    theta = jnp.asarray(init, dtype)
    total = jnp.sum(theta, 1, keepdims=True)
    return jnp.swapaxes(theta / jnp.where(total > 0, total, 1.0), 0, 1)[None]


class Problem(NamedTuple):
    """Standardized data of one fit.

    Attributes:
        y: ``[n]`` outcomes, or ``[C, n]`` one-hot classes.
        x: Design of the outcome.
        s: Design of the membership.
        weights: ``[n]`` sample weights.
        ridge: ``[]`` pseudo-rows that pull every coefficient to zero.
        variance: ``[]`` the noise variance to start from.
    """

    y: Array
    x: Design
    s: Design
    weights: Float[Array, " n"]
    ridge: Float[Array, ""]
    variance: Float[Array, ""]


class Schedule(NamedTuple):
    """How EM steps; nothing of it is compiled in.

    Attributes:
        tolerance: ``[]`` change of the objective, a row, that ends it.
        damping: ``[]`` part of each M-step that is taken.
        newton_steps: ``[]`` steps of logistic regressions in each M-step.
        max_steps: ``[]`` limit on EM steps.
    """

    tolerance: Float[Array, ""]
    damping: Float[Array, ""]
    newton_steps: Int[Array, ""]
    max_steps: Int[Array, ""]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """What is fitted, as compiled in.

    Attributes:
        outcome: The outcome's law.
        one_vs_rest: Fit the membership by separate logistic regressions.
    """

    outcome: Outcome
    one_vs_rest: bool = False


class Ended(NamedTuple):
    """Where one start ended.

    Attributes:
        params: The parameters.
        theta: ``[G, n]`` responsibilities by them.
        log_likelihood: ``[]`` of them, without penalty.
        objective: ``[]`` penalized log-likelihood.
        gain: ``[]`` its last change, for each row.
        steps: ``[]`` EM steps.
        trace: ``[capacity]`` the objective after each step, NaN after the last.
    """

    params: Params
    theta: Float[Array, "G n"]
    log_likelihood: Float[Array, ""]
    objective: Float[Array, ""]
    gain: Float[Array, ""]
    steps: Int[Array, ""]
    trace: Float[Array, " t"]


def log_joint(
    params: Params, problem: Problem, outcome: Outcome
) -> Float[Array, "G n"]:
    """``log P(group j | s_i) + log p(y_i | x_i, j)``."""
    logits = matmul(params.membership, transpose(problem.s.rows))
    log_p = outcome.log_prob(params, problem.x, problem.y)
    return jax.nn.log_softmax(logits, 0) + log_p


def log_likelihood(
    params: Params, problem: Problem, outcome: Outcome
) -> Float[Array, ""]:
    """``sum_i w_i log sum_j P(j | s_i) p(y_i | x_i, j)``, nats, standardized units."""
    joint = log_joint(params, problem, outcome)
    return jnp.sum(problem.weights * jax.nn.logsumexp(joint, 0))


def _e_step(params: Params, problem: Problem, model: Model):
    joint = log_joint(params, problem, model.outcome)
    total = jax.nn.logsumexp(joint, 0)
    penalty = 0.5 * problem.ridge * jnp.sum(params.membership**2)
    penalty = penalty + model.outcome.penalty(params, problem.ridge)
    likelihood = jnp.sum(problem.weights * total)
    return jnp.exp(joint - total), likelihood, likelihood - penalty


def _m_step(
    params: Params,
    problem: Problem,
    theta: Array,
    model: Model,
    damping: Array,
    steps: Array,
):
    if params.membership.shape[0] > 1:

        def improve(_, coef: Array):
            if model.one_vs_rest:
                return one_vs_rest_step(
                    coef, problem.s, theta, problem.weights, problem.ridge
                )
            return softmax_step(coef, problem.s, theta, problem.ridge)

        old = params.membership
        best = jax.lax.fori_loop(0, steps, improve, old)
        params = params._replace(membership=old + damping * (best - old))
    return model.outcome.fit(
        params, problem.x, problem.y, theta, problem.ridge, damping=damping, steps=steps
    )


def run_one(
    problem: Problem,
    theta: Float[Array, "G n"],
    schedule: Schedule,
    model: Model,
    capacity: int,
) -> Ended:
    """Run EM from responsibilities until the objective stands still."""
    n_groups, dtype = theta.shape[0], theta.dtype
    params = Params(
        jnp.zeros((n_groups, problem.s.rows.shape[1]), dtype),
        model.outcome.zeros(n_groups, problem.x.rows.shape[1], dtype),
        jnp.broadcast_to(problem.variance, (n_groups,)).astype(dtype),
    )
    mass = jnp.sum(problem.weights)

    def unfinished(state: tuple[Params, Array, Array, Array, Array, Array, Array]):
        _, _, _, _, gain, step, _ = state
        return (jnp.abs(gain) > schedule.tolerance) & (step <= schedule.max_steps)

    def body(state: tuple[Params, Array, Array, Array, Array, Array, Array]):
        params, theta, _, objective, _, step, trace = state
        # The start is an M-step too: from zero a damped one leads nowhere near it.
        start = step == 0
        damping = jnp.where(start, 1.0, schedule.damping).astype(dtype)
        newton = schedule.newton_steps
        newton = jnp.where(start, jnp.maximum(newton, 3), newton)
        weighted = problem.weights * theta
        params = _m_step(params, problem, weighted, model, damping, newton)
        theta, likelihood, reached = _e_step(params, problem, model)
        gain = (reached - objective) / mass
        trace = trace.at[step].set(reached)
        return params, theta, likelihood, reached, gain, step + 1, trace

    far = jnp.asarray(jnp.inf, dtype)
    trace = jnp.full(capacity, jnp.nan, dtype)
    state = (
        params,
        theta,
        -far,
        -far,
        far,
        jnp.zeros((), jnp.int32),
        trace,
    )
    end = jax.lax.while_loop(unfinished, body, state)
    return Ended(*end[:-2], end[-2] - 1, end[-1])  # pyright: ignore[reportCallIssue]


@partial(jax.jit, static_argnames=("model", "capacity", "batch_size"))
def run_many(
    problem: Problem,
    thetas: Float[Array, "R G n"],
    schedule: Schedule,
    *,
    model: Model,
    capacity: int,
    batch_size: int | None = None,
) -> Ended:
    """:func:`run_one` from every start, `batch_size` of them side by side."""

    def run(theta: Array):
        return run_one(problem, theta, schedule, model, capacity)

    if batch_size is None or batch_size >= len(thetas):
        return jax.vmap(run)(thetas)
    return map_in_chunks(run, thetas, batch_size)


@partial(jax.jit, static_argnames="outcome")
def posterior(
    params: Params, problem: Problem, outcome: Outcome
) -> tuple[Float[Array, "G n"], Float[Array, ""]]:
    """Responsibilities and the log-likelihood, without penalty."""
    joint = log_joint(params, problem, outcome)
    total = jax.nn.logsumexp(joint, 0)
    return jnp.exp(joint - total), jnp.sum(problem.weights * total)
