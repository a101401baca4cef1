"""The training loop: minibatches, early stopping, several runs side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxsteer._types import Array, Float, Int
from jaxsteer.latent._moe import mixed
from jaxsteer.latent._objectives import Objective, RowLosses, mean_loss

Progress = Callable[[int, dict[str, list[float]]], None]


class Rows(NamedTuple):
    """Standardized rows of one run, or of several stacked.

    Attributes:
        a: ``[n, p]`` columns that are not sensitive.
        s: ``[n, q]`` sensitive columns.
        y: ``[n]`` outcomes or class codes.
        weights: ``[n]`` sample weights.
        group: ``[n]`` known groups.
    """

    a: Float[Array, "n p"]
    s: Float[Array, "n q"]
    y: Array
    weights: Float[Array, " n"]
    group: Int[Array, " n"]


class TrainState(NamedTuple):
    """Where a run is.

    Attributes:
        params: The model's parameters, and what the objective learns.
        inner: The optimizer's state.
        memory: What the objective remembers.
        best: The model's parameters at the best validation score.
        best_score: ``[]`` that score.
        best_epoch: ``[]`` its epoch.
        epoch: ``[]`` epochs done.
        key: ``[]`` randomness of the batches, as raw bits.
    """

    params: Any
    inner: Any
    memory: Any
    best: Any
    best_score: Array
    best_epoch: Array
    epoch: Array
    key: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How to train.

    Attributes:
        learning_rate: Of Adam.
        weight_decay: Decoupled.
        decay: Whether the rate falls to zero along a cosine over all epochs.
        epochs: Most passes over the rows.
        batch_size: Rows of a batch.
        patience: Epochs without a better validation score before a run stops, or None
            for all epochs (the best one is kept all the same).
    """

    learning_rate: float = 0.01
    weight_decay: float = 0.0
    decay: bool = False
    epochs: int = 30
    batch_size: int = 64
    patience: int | None = 10


@lru_cache(maxsize=64)
def build_optimizer(
    learning_rate: float, weight_decay: float, steps: int | None
) -> optax.GradientTransformation:
    """Adam with decoupled decay; the same object for the same settings."""
    rate = (
        learning_rate
        if steps is None
        else optax.cosine_decay_schedule(learning_rate, steps)
    )
    return optax.adamw(rate, weight_decay=weight_decay)


def row_losses(graph: Any, state: Any, rows: Rows) -> RowLosses:
    """Squared errors, or minus log-probabilities, of a batch."""
    model = nnx.merge(graph, state)
    log_gates, experts = model.parts(rows.a, rows.s)
    found = mixed(log_gates, experts)
    if found.ndim == 1:
        losses = (found - rows.y) ** 2
        target = rows.y[:, None]
    else:
        losses = -jnp.take_along_axis(found, rows.y[:, None], 1)[:, 0]
        target = jax.nn.one_hot(rows.y, found.shape[1], dtype=found.dtype)
    inputs = jnp.concatenate([rows.a, rows.s, target], 1)
    return RowLosses(losses, jnp.exp(log_gates), rows.weights, rows.group, inputs)


def start_run(
    graph: nnx.GraphDef[Any],
    state: Any,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    key: Array,
    rows: Rows,
) -> TrainState:
    """The state before the first epoch."""
    start_key, key = jax.random.split(key)
    width = jax.eval_shape(partial(row_losses, graph), state, rows).inputs.shape[1]
    learned, memory = objective.start(start_key, width, 0)
    params = (state, learned)
    return TrainState(
        params=params,
        inner=optimizer.init(params),
        memory=memory,
        best=state,
        best_score=jnp.asarray(jnp.inf, rows.a.dtype),
        best_epoch=jnp.zeros((), jnp.int32),
        epoch=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(key),
    )


def _epoch(
    graph: nnx.GraphDef[Any],
    objective: Objective,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    run: TrainState,
    rows: Rows,
    valid: Rows,
    patience: Array,
) -> tuple[TrainState, dict[str, Array]]:
    """One pass over the rows, then the validation score."""
    n = rows.a.shape[0]
    n_batches = -(-n // batch_size)
    key = jax.random.wrap_key_data(run.key)
    key, order_key = jax.random.split(key)
    order = jax.random.permutation(order_key, n)
    order = jnp.concatenate([order, jnp.full(n_batches * batch_size - n, -1)])

    def step(carry: tuple[Any, Any, Array], index: Array):
        params, inner, memory = carry
        batch = jax.tree.map(lambda leaf: leaf[index], rows)
        # What fills the last batch up has no weight.
        batch = batch._replace(weights=jnp.where(index >= 0, batch.weights, 0.0))

        def loss(params: Any):
            found = row_losses(graph, params[0], batch)
            total, later = objective.loss(found, params[1], memory)
            return total, (later, mean_loss(found))

        (_, (memory, mean)), slope = jax.value_and_grad(loss, has_aux=True)(params)
        slope = (slope[0], jax.tree.map(jnp.negative, slope[1]))
        updates, inner = optimizer.update(slope, inner, params)
        moved: Any = optax.apply_updates(params, updates)
        return (moved, inner, memory), (mean, jnp.sum(batch.weights))

    (params, inner, memory), (means, mass) = jax.lax.scan(
        step,
        (run.params, run.inner, run.memory),
        order.reshape(n_batches, batch_size),
    )
    found = row_losses(graph, params[0], valid)
    score = objective.score(found)
    epoch = run.epoch + 1
    stopped = run.epoch - run.best_epoch > patience
    better = (score < run.best_score) & ~stopped
    done = TrainState(
        params=params,
        inner=inner,
        memory=memory,
        best=jax.tree.map(partial(jnp.where, better), params[0], run.best),
        best_score=jnp.where(better, score, run.best_score),
        best_epoch=jnp.where(better, epoch, run.best_epoch),
        epoch=epoch,
        key=jax.random.key_data(key),
    )
    total = jnp.sum(mass)
    train = jnp.sum(means * mass) / jnp.where(total > 0, total, 1.0)
    return done, {"train": train, "validation": mean_loss(found), "score": score}


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _epochs(
    graph: nnx.GraphDef[Any],
    objective: Objective,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    runs: TrainState,
    rows: Rows,
    valid: Rows,
    patience: Array,
) -> tuple[TrainState, dict[str, Array]]:
    one = partial(_epoch, graph, objective, optimizer, batch_size)
    return jax.vmap(one, in_axes=(0, 0, 0, None))(runs, rows, valid, patience)


def train(
    graph: Any,
    runs: TrainState,
    rows: Rows,
    valid: Rows,
    *,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    options: TrainOptions,
    progress: Progress | None = None,
    after_epoch: Callable[[TrainState], None] | None = None,
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Train runs side by side until all have stopped.

    Args:
        graph: Structure of the model, the same for all runs.
        runs: States with a leading axis, one entry a run.
        rows: Training rows with that axis.
        valid: Validation rows with it.
        objective: What is minimized.
        optimizer: Any optax transformation.
        options: How to train.
        progress: Called with the epoch and its figures, one a run each.
        after_epoch: Called with the states after every epoch.

    Returns:
        The last states, and the figures ``[epochs, runs]``.
    """
    patience = options.epochs if options.patience is None else options.patience
    history: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "score": []}
    batch_size = min(options.batch_size, rows.a.shape[1])
    done = int(np.min(np.asarray(runs.epoch)))
    for epoch in range(done, options.epochs):
        waited = np.asarray(runs.epoch) - np.asarray(runs.best_epoch)
        if (waited > patience).all():
            break
        runs, figures = _epochs(
            graph, objective, optimizer, batch_size, runs, rows, valid, patience
        )
        figures = {name: np.asarray(values) for name, values in figures.items()}
        for name, values in figures.items():
            history[name].append(values)
        if after_epoch is not None:
            after_epoch(runs)
        if progress is not None:
            progress(epoch + 1, {name: v.tolist() for name, v in figures.items()})
    size = len(runs.epoch)
    return runs, {
        name: np.array(values).reshape(-1, size) for name, values in history.items()
    }
