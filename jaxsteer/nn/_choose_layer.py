"""Where: the layers of a model compared by what steering there would do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsteer import moments
from jaxsteer._errors import check_choice, check_codes
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Bool, Float, Int, Key
from jaxsteer.ideal import ideality_gap, nearest_ideal
from jaxsteer.nn._capture import capture_activations
from jaxsteer.nn._choose_strength import (
    Effect,
    StrengthChoice,
    batches_of,
    check_train,
    choose_strength,
    tell,
    twin_of,
)
from jaxsteer.nn._group_steer import GroupSteer
from jaxsteer.nn._insert import insert_steering
from jaxsteer.nn._paths import Path, split_path
from jaxsteer.nn._steered import set_strength
from jaxsteer.population import Population

RULES = ("gap", "recovered", "effect")


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerChoice:
    """The layers' figures, and the layer that was chosen.

    The choice is made on the training rows; the others are for the report. Gaps are
    :func:`jaxsteer.ideality_gap` in a few principal directions of the training rows.
    Such an estimate is too high by noise, by the same at layers of as many directions
    and rows: compare layers, and judge a gap by its interval.

    Attributes:
        paths: The layers ``[L]``, written with dots.
        gap: ``[L]``, of the training rows.
        gap_others: ``[L]``, of the other rows.
        low: ``[L]``, lower end of its interval: resampled rows, reflected, at least 0.
        high: ``[L]``.
        left: ``[L]``, gap of the training rows at `later`, steered at each layer; None
            where there is no `later`.
        left_others: ``[L]``, of the other rows.
        unsteered: ``[2]``, the gaps at `later` without steering: of training rows, and
            of others.
        strengths: What :func:`choose_strength` found at each layer; empty without
            `effect`.
        rule: ``"gap"``, ``"recovered"`` or ``"effect"``.
        best: Place of the choice in `paths`.
    """

    paths: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    gap: Float[Array, " L"]
    gap_others: Float[Array, " L"]
    low: Float[Array, " L"]
    high: Float[Array, " L"]
    left: Float[Array, " L"] | None
    left_others: Float[Array, " L"] | None
    unsteered: Float[Array, " 2"] | None
    strengths: tuple[StrengthChoice, ...]
    rule: str = dataclasses.field(metadata={"static": True})
    best: Int[Array, ""]

    @property
    def path(self) -> str:
        """The layer that was chosen."""
        return self.paths[int(self.best)]


def choose_layer(
    model: nnx.Module,
    paths: Sequence[Path],
    inputs: Int[ArrayLike, "n T"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    *,
    train: Bool[ArrayLike, " n"],
    rule: str = "gap",
    later: Path | None = None,
    effect: Effect | None = None,
    strengths: Sequence[float] = (0.25, 0.5, 1.0),
    layers: Mapping[Path, Callable[..., Array]] | None = None,
    lengths: Int[ArrayLike, " n"] | None = None,
    positions: str | ArrayLike = "last",
    n_components: int = 8,
    intervention: str = "affirmative",
    maps: str = "general",
    reference: int | None = None,
    n_boot: int = 100,
    level: float = 0.95,
    batch_size: int = 32,
    key: Key[Array, ""],
    **limits: Any,
) -> LayerChoice:
    """Compare the layers of a language model as places for steering, and choose one.

    ``rule="gap"`` takes the layer where the groups' states of the last token are
    farthest from ideal: what steering there can take away. ``"recovered"`` steers at
    each layer in turn and takes the one after which the groups are nearest to ideal at
    `later`: a gap that the layers in between recover, from other tokens or from what
    the map left, counts against it. ``"effect"`` takes the layer with the largest
    measured effect on the output at a strength within the limits of cost.

    Args:
        model: The model, without steering at these places; it stays as it is.
        paths: The layers to compare, ``[L]``.
        inputs: ``[n, T]`` tokens, padded on the right; the model is called with them.
        label: ``[n]`` class codes.
        group: ``[n]`` group codes.
        train: ``[n]``, the rows to fit and choose on; the others are for the report.
        rule: How to choose.
        later: A place behind all of these, for "recovered".
        effect: What is wanted of the output, as :func:`choose_strength` takes it, for
            "effect".
        strengths: Those to try, for "effect".
        layers: The steering layer of each path, such as an :class:`AffineSteer`; None
            fits group maps to the training rows by :func:`jaxsteer.nearest_ideal`, in
            the principal directions.
        lengths: ``[n]``; None takes T for all.
        positions: Which tokens are steered, as :func:`set_positions` takes it.
        n_components: Number of principal directions of each layer.
        intervention: As for :func:`jaxsteer.nearest_ideal`, like the two that follow.
        maps: Which maps are allowed.
        reference: The group that stays; None takes the largest of the training rows.
        n_boot: Resamples of the other rows for the intervals.
        level: Of the intervals.
        batch_size: Rows a pass.
        key: Key of the resamples.
        **limits: ``max_kl``, ``max_perplexity`` and ``run``, as
            :func:`choose_strength` takes them.

    Returns:
        The figures of each layer, and the choice.

    Raises:
        ValueError: If a rule lacks its argument, shapes do not fit, or a cell has no
            training row or no other row.

    Example:
        ::

            paths = [f"layers.{i}" for i in range(12)]
            train = jnp.arange(len(label)) % 2 == 0
            choice = choose_layer(
                model, paths, tokens, label, group, train=train, key=jax.random.key(0)
            )
            choice.path, choice.gap_others
    """
    check_choice("rule", rule, RULES)
    for name, value in (("later", later), ("effect", effect)):
        if value is None and rule == {"later": "recovered", "effect": "effect"}[name]:
            raise ValueError(f"rule={rule!r} needs {name}=...")
    tokens, names = jnp.asarray(inputs), tuple(map(_dotted, paths))
    n = len(tokens)
    train = np.asarray(check_train(train, n))
    label, group = np.asarray(label), np.asarray(group)
    sizes = check_codes("label", label), check_codes("group", group)
    _check_cells(label, group, train, sizes)
    lengths = np.full(n, tokens.shape[1]) if lengths is None else np.asarray(lengths)
    if reference is None:
        reference = int(np.bincount(group[train]).argmax())
    options = {"intervention": intervention, "maps": maps, "reference": reference}
    run = limits.get("run")
    seen = names if later is None else (*names, _dotted(later))
    twin = twin_of(model)
    states = _last_states(twin, seen, tokens, lengths, None, batch_size, run)
    views = {name: _view(x[train], n_components) for name, x in states.items()}
    cells = label, group, sizes

    def gaps(name: str, x: Array) -> list[Array]:
        y = views[name](x)
        rows = [jnp.asarray(part, y.dtype) for part in (train, ~train)]
        return [_gap(y, *cells, part, **options) for part in rows]

    found = {name: gaps(name, x) for name, x in states.items()}
    ends = []
    for name, one in zip(names, jax.random.split(key, len(names)), strict=True):
        y = views[name](states[name])[~train]
        codes = label[~train], group[~train], sizes
        ends.append(_interval(y, *codes, found[name][1], one, n_boot, level, **options))
    left, chosen = [], []
    if later is not None or effect is not None:
        # All layers at once, at strength 0 but for one: one program for all places.
        for name, path in zip(names, paths, strict=True):
            layer = None if layers is None else layers[path]
            if layer is None:
                layer = _fitted(views[name], states[name], cells, train, options)
            insert_steering(twin, name, layer, positions=positions, lengths=lengths[:1])
        set_strength(twin, 0.0)
        grouped = any(isinstance(m, GroupSteer) for _, m in nnx.iter_graph(twin))
        told = {"group": group if grouped else None, "positions": positions}
        for name in names:
            if later is not None:
                set_strength(twin, 1.0, path=name)
                place = _dotted(later)
                x = _last_states(twin, (place,), tokens, lengths, told, batch_size, run)
                left.append(gaps(place, x[place]))
                set_strength(twin, 0.0, path=name)
            if effect is not None:
                chosen.append(
                    choose_strength(
                        twin,
                        tokens,
                        effect,
                        strengths=strengths,
                        train=train,
                        lengths=lengths,
                        batch_size=batch_size,
                        path=name,
                        **told,
                        **limits,
                    )
                )
    gap, gap_others = (jnp.stack([found[name][i] for name in names]) for i in (0, 1))
    after = jnp.asarray(left) if left else None
    if rule == "gap":
        best = jnp.argmax(gap)
    elif rule == "recovered" and after is not None:
        best = jnp.argmin(after[:, 0])
    else:
        best = jnp.argmax(jnp.stack([_reached(choice) for choice in chosen]))
    return LayerChoice(
        paths=names,
        gap=gap,
        gap_others=gap_others,
        low=jnp.stack([end[0] for end in ends]),
        high=jnp.stack([end[1] for end in ends]),
        left=None if after is None else after[:, 0],
        left_others=None if after is None else after[:, 1],
        unsteered=None if later is None else jnp.stack(found[_dotted(later)]),
        strengths=tuple(chosen),
        rule=rule,
        best=best,
    )


def _dotted(path: Path) -> str:
    return ".".join(split_path(path))


def _check_cells(
    label: np.ndarray, group: np.ndarray, train: np.ndarray, sizes: tuple[int, int]
) -> None:
    for name, rows in (("training", train), ("other", ~train)):
        count = np.zeros(sizes, int)
        np.add.at(count, (label[rows], group[rows]), 1)
        if (count < 2).any():
            cell = tuple(int(i) for i in np.argwhere(count < 2)[0])
            raise ValueError(
                f"Class {cell[0]} in group {cell[1]} has {count[cell]} {name} rows; its "
                f"law takes at least 2: choose another train=..."
            )


@partial(nnx.jit, static_argnames=("paths", "run"))
def _states(
    model: nnx.Module,
    tokens: Array,
    lengths: np.ndarray,
    *,
    paths: tuple[str, ...],
    run: Callable[..., Any] | None,
):
    with capture_activations(model, paths) as kept:
        model(tokens) if run is None else run(model, tokens)
        rows = jnp.arange(len(tokens))
        return {path: kept[path][rows, lengths - 1] for path in paths}


def _last_states(
    model: nnx.Module,
    paths: tuple[str, ...],
    tokens: Array,
    lengths: np.ndarray,
    told: Any,
    size: int,
    run: Callable[..., Any] | None,
) -> dict[str, Array]:
    parts, n = [], len(tokens)
    for rows in batches_of(n, size):
        if told is not None:
            tell(model, lengths[rows], told["group"], rows, told["positions"])
        parts.append(_states(model, tokens[rows], lengths[rows], paths=paths, run=run))
    return {
        path: jnp.concatenate([part[path] for part in parts])[:n].astype(jnp.float32)
        for path in paths
    }


def _view(x: Array, n_components: int) -> moments.Projection:
    nothing = np.zeros(len(x), np.int32)
    state = moments.init(x.shape[1], n_classes=1, n_groups=1, scatter="pooled")
    state = moments.update(state, x, nothing, nothing)
    return moments.principal_projection(state, min(n_components, x.shape[1]))


def _population(
    y: Array,
    label: ArrayLike,
    group: ArrayLike,
    sizes: tuple[int, int],
    weights: Array | None,
) -> Population:
    return moments.fit_population(
        y, label, group, weights=weights, n_classes=sizes[0], n_groups=sizes[1]
    )


_STATIC = ("sizes", "intervention", "maps", "reference")


@partial(jax.jit, static_argnames=_STATIC)
def _gap(
    y: Array,
    label: ArrayLike,
    group: ArrayLike,
    sizes: tuple[int, int],
    weights: Array | None,
    **options: Any,
) -> Array:
    gap: Any = ideality_gap(_population(y, label, group, sizes, weights), **options)
    return gap


@partial(jax.jit, static_argnames=(*_STATIC, "n_boot"))
def _interval(
    y: Array,
    label: ArrayLike,
    group: ArrayLike,
    sizes: tuple[int, int],
    value: Array,
    key: Array,
    n_boot: int,
    level: float,
    **options: Any,
) -> Array:
    n = len(y)

    def once(key: Array) -> Array:
        drawn = jax.random.randint(key, (n,), 0, n)
        weights = jnp.zeros(n, y.dtype).at[drawn].add(1)
        return _gap(y, label, group, sizes, weights, **options)

    again = jax.lax.map(once, jax.random.split(key, n_boot))
    tail = (1 - level) / 2
    ends = jnp.nanquantile(again, jnp.stack([1 - tail, tail]))
    # Resampling adds the noise that made the value too high once more: reflected.
    return jnp.clip(2 * value - ends, 0)


def _fitted(
    view: moments.Projection,
    x: Array,
    cells: tuple[np.ndarray, np.ndarray, tuple[int, int]],
    train: np.ndarray,
    options: dict[str, Any],
) -> GroupSteer:
    label, group, sizes = cells
    pop = _population(view(x)[train], label[train], group[train], sizes, None)
    found: Any = nearest_ideal(pop, differentiate="none", **options).group_maps
    return GroupSteer(view.lift(found))


def _reached(choice: StrengthChoice) -> Array:
    effect = choice.summary(train=True)["effect"]
    return jnp.where(choice.best >= 0, effect[choice.best], 0.0)
