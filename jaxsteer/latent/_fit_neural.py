"""Prepare rows, train, and keep the best epoch: what all networks here share."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxsteer._errors import (
    check_choice,
    check_codes,
    check_finite,
    check_same_length,
    check_weights,
)
from jaxsteer._types import ArrayLike, Float, Int, PathLike
from jaxsteer.latent._neural_fit import (
    NeuralFit,
    Scales,
    as_matrix,
    read_about,
    read_tree,
    write_tree,
)
from jaxsteer.latent._objectives import Objective
from jaxsteer.latent._train import (
    Progress,
    Rows,
    TrainOptions,
    TrainState,
    build_optimizer,
    start_run,
    train,
)

FAMILIES = ("normal", "bernoulli", "categorical")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeuralData:
    """Rows of one run, checked.

    Attributes:
        y: ``[n]`` outcomes or class codes.
        a: ``[n, p]`` columns that are not sensitive.
        s: ``[n, q]`` sensitive columns.
        weights: ``[n]``.
        group: ``[n]`` known groups.
        n_groups: Number of known groups.
        family: The outcome's family.
        n_classes: Number of classes, None for a real outcome.
    """

    y: np.ndarray
    a: np.ndarray
    s: np.ndarray
    weights: np.ndarray
    group: np.ndarray
    n_groups: int
    family: str
    n_classes: int | None


def neural_data(
    y: ArrayLike,
    a: Float[ArrayLike, "n p"],
    s: Float[ArrayLike, "n q"],
    *,
    family: str = "normal",
    n_classes: int | None = None,
    weights: Float[ArrayLike, " n"] | None = None,
    group: Int[ArrayLike, " n"] | None = None,
) -> NeuralData:
    """Check rows for the functions that train several networks side by side.

    Args:
        y: ``[n]`` outcomes, or class codes.
        a: ``[n, p]`` columns that are not sensitive.
        s: ``[n, q]`` sensitive columns.
        family: "normal", "bernoulli" or "categorical".
        n_classes: Number of classes; None takes the largest code plus one.
        weights: ``[n]`` sample weights.
        group: ``[n]`` known groups, for "group_dro".

    Returns:
        The rows.

    Raises:
        ValueError: If an argument is unusable.
    """
    check_choice("family", family, FAMILIES)
    if weights is not None:
        check_weights(weights)
    n = check_same_length(y=y, a=a, s=s, weights=weights, group=group)
    for name, rows in (("y", y), ("a", a), ("s", s)):
        check_finite(name, rows)
    if np.ndim(y) != 1:
        raise ValueError(f"y must have shape [n], got {list(np.shape(y))}.")
    size = None
    if family != "normal":
        size = check_codes("y", y, 2 if family == "bernoulli" else n_classes)
        if size < 2:
            raise ValueError("y has one class only; at least two are needed.")
    elif n_classes is not None:
        raise ValueError(f"n_classes={n_classes} is for classes; family is 'normal'.")
    n_groups = 1
    if group is not None:
        n_groups = check_codes("group", group)
    return NeuralData(
        y=np.asarray(y, np.int32 if size else np.float64),
        a=as_matrix("a", a),
        s=as_matrix("s", s),
        weights=np.ones(n) if weights is None else np.asarray(weights, np.float64),
        group=np.zeros(n, np.int32) if group is None else np.asarray(group, np.int32),
        n_groups=n_groups,
        family=family,
        n_classes=size,
    )


def fit_networks(
    datasets: Sequence[NeuralData],
    seeds: Sequence[int],
    *,
    model: type,
    settings: dict[str, Any],
    objective: Objective,
    options: TrainOptions,
    validation: float,
    optimizer: optax.GradientTransformation | None = None,
    progress: Progress | None = None,
    checkpoint: PathLike | None = None,
) -> list[NeuralFit]:
    """Train one network for each data set, all of them side by side.

    Args:
        datasets: Rows of equal shapes.
        seeds: One a data set: of weights, batches and the validation rows.
        model: Class of the network.
        settings: What it is built with, beside the widths.
        objective: What is minimized.
        options: How to train.
        validation: Part of the rows that early stopping watches; 0 watches the
            training rows.
        optimizer: None takes Adam by the options.
        progress: See :func:`jaxsteer.latent.fit_rome_moe`.
        checkpoint: File to go on from, and to write after every epoch.

    Returns:
        The fits.
    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation={validation!r} must be at least 0 and below 1.")
    if len(seeds) != len(datasets):
        raise ValueError(f"{len(seeds)} seeds for {len(datasets)} data sets.")
    if len({(d.a.shape, d.s.shape, d.n_classes) for d in datasets}) > 1:
        raise ValueError("datasets must have equal shapes to be trained together.")
    first = datasets[0]
    built = {
        "n_features": first.a.shape[1],
        "n_sensitive": first.s.shape[1],
        "n_classes": first.n_classes,
        **settings,
    }
    prepared = [
        _prepare(data, seed, validation)
        for data, seed in zip(datasets, seeds, strict=True)
    ]
    n = len(prepared[0][1].y)
    if optimizer is None:
        batches = -(-n // min(options.batch_size, n))
        steps = options.epochs * batches if options.decay else None
        optimizer = build_optimizer(options.learning_rate, options.weight_decay, steps)
    # The structure is the same for every seed.
    split = [nnx.split(model(**built, rngs=nnx.Rngs(seed))) for seed in seeds]
    graph, states = split[0][0], [state for _, state in split]
    runs = [
        start_run(graph, state, objective, optimizer, jax.random.key(seed), part[1])
        for state, seed, part in zip(states, seeds, prepared, strict=True)
    ]
    stacked = _stack(runs)
    about = {
        "kind": "checkpoint",
        "model": model.__name__,
        "settings": built,
        "objective": repr(objective),
        "options": dataclasses.asdict(options),
        "seeds": [int(seed) for seed in seeds],
    }

    def after_epoch(state: TrainState):
        if checkpoint is not None:
            write_tree(checkpoint, state, about)

    if checkpoint is not None and pathlib.Path(checkpoint).exists():
        stacked = _resume(checkpoint, stacked, about)
    ended, history = train(
        graph,
        stacked,
        _stack([part[1] for part in prepared]),
        _stack([part[2] for part in prepared]),
        objective=objective,
        optimizer=optimizer,
        options=options,
        progress=progress,
        after_epoch=after_epoch,
    )
    return [
        NeuralFit(
            model=nnx.merge(graph, jax.tree.map(lambda v, i=i: v[i], ended.best)),
            scales=part[0],
            family=data.family,
            settings=built,
            best_epoch=int(ended.best_epoch[i]),
            best_score=float(ended.best_score[i]),
            history={name: values[:, i] for name, values in history.items()},
        )
        for i, (data, part) in enumerate(zip(datasets, prepared, strict=True))
    ]


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _prepare(data: NeuralData, seed: int, validation: float):
    """Scales, training rows and validation rows of one data set."""
    n = len(data.y)
    order = np.random.default_rng([seed, 11]).permutation(n)
    held = round(validation * n)
    if held >= n:
        raise ValueError(f"validation={validation} leaves no row of {n} to train on.")
    kept = order[held:]
    watched = order[:held] if held else kept
    a, s = _scale(data.a[kept]), _scale(data.s[kept])
    y = np.array([0.0, 1.0])
    if data.n_classes is None:
        y = _scale(data.y[kept][:, None])[:, 0]
    scales = Scales(a=a, s=s, y=y)

    def rows(index: np.ndarray):
        outcome = data.y[index]
        if data.n_classes is None:
            outcome = jnp.asarray((outcome - y[0]) / y[1], jnp.float32)
        return Rows(
            jnp.asarray((data.a[index] - a[0]) / a[1], jnp.float32),
            jnp.asarray((data.s[index] - s[0]) / s[1], jnp.float32),
            jnp.asarray(outcome),
            jnp.asarray(data.weights[index], jnp.float32),
            jnp.asarray(data.group[index]),
        )

    return scales, rows(kept), rows(watched)


def _scale(rows: np.ndarray) -> np.ndarray:
    spread = rows.std(0)
    return np.stack([rows.mean(0), np.where(spread > 1e-12, spread, 1.0)])


def _resume(path: PathLike, fresh: Any, about: dict[str, Any]):
    found = read_about(path)
    changed = sorted(k for k in about if found.get(k) != about[k])
    if changed:
        raise ValueError(
            f"{os.fspath(path)} was written with other {', '.join(changed)}; give the "
            "same, or another file."
        )
    return read_tree(path, fresh)
