"""Moments of many places of a model in one pass, without keeping activations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsteer import moments
from jaxsteer._errors import check_choice, check_codes
from jaxsteer._types import Array, ArrayLike, PyTree
from jaxsteer.nn._capture import capture_activations
from jaxsteer.nn._paths import Path, split_path
from jaxsteer.nn._select import Which, check_which

TOKENS = ("last", "mean", "all")


def capture_moments(
    model: nnx.Module,
    paths: Sequence[Path] | str,
    batches: Iterable[PyTree],
    *,
    n_classes: int,
    n_groups: int = 1,
    tokens: str = "last",
    scatter: str = "pooled",
    at: str = "output",
    which: Which = None,
    states: dict[str, moments.MomentState] | None = None,
) -> dict[str, moments.MomentState]:
    """Run a model over batches and keep the moments of its activations, place by place.

    Each batch is one jitted step that adds the activations to a
    :class:`jaxsteer.moments.MomentState` for each place and forgets them: memory is that
    of the plain forward pass plus the states. A state of `d` features keeps ``d^2``
    numbers for each covariance, and each row costs ``2 d^2`` operations for each place
    (``scatter="pooled"``; a transformer block takes about ``24 d^2`` a token), so that
    one row a text costs next to nothing. "cell" and "group" keep, and compute, as many
    covariances as there are cells or groups.

    Args:
        model: Any NNX module. It is run as it is: call ``model.eval()`` first.
        paths: Places, as :func:`capture_activations` takes them.
        batches: Yields ``(inputs, label)``, ``(inputs, label, group)`` or ``(inputs,
            label, group, mask)``. `inputs` are the model's arguments, a tuple, or one
            array; `label` and `group` are codes ``[B]``; `mask` is ``[B, T]``, True for
            the tokens that are no padding, on the right of the text. Batches of one shape
            are compiled once.
        n_classes: ``K``.
        n_groups: ``G``.
        tokens: Which rows an example gives, of activations ``[B, T, d]``: the "last"
            token, the "mean" of all, or "all", each a row. Of activations ``[B, d]`` it
            is the only one.
        scatter: Which covariances are kept, see :func:`jaxsteer.moments.init`.
        at: ``"output"`` or ``"input"``, as for :func:`capture_activations`.
        which: Likewise.
        states: Go on from these; None starts anew.

    Returns:
        For each path, written with dots, a state for :func:`jaxsteer.moments.finish`. A
        stack of modules gives one state whose arrays have a leading axis ``[L]``.

    Raises:
        ValueError: If there are no batches, a path leads nowhere, or codes, masks or
            activations do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxsteer.nn import capture_moments
        >>> model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.relu)
        >>> batches = [(jnp.ones((4, 2)), jnp.array([0, 1, 0, 1]))] * 3
        >>> found = capture_moments(model, ["layers.0", "layers.1"], batches, n_classes=2)
        >>> found["layers.1"].mass.tolist(), found["layers.1"].mean.shape
        ([6.0, 6.0], (2, 3))
    """
    check_choice("tokens", tokens, TOKENS)
    paths = [paths] if isinstance(paths, str) else list(paths)
    place = {
        "paths": tuple(".".join(split_path(path)) for path in paths),
        "at": at,
        "which": check_which(which),
    }
    for batch in batches:
        parts: tuple[Any, ...] = (*batch, None, None)
        inputs, label, group, mask = parts[:4]
        inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        label = np.asarray(label)
        group = np.zeros(label.shape, np.int32) if group is None else np.asarray(group)
        check_codes("label", label, n_classes)
        check_codes("group", group, n_groups)
        if label.ndim != 1 or label.shape != group.shape:
            raise ValueError(
                f"label has shape {label.shape} and group {group.shape}, expected one "
                f"code an example."
            )
        if states is None:
            shapes = _shapes(model, inputs, **place)
            states = {
                name: _empty(name, shape, len(label), n_classes, n_groups, scatter)
                for name, shape in shapes.items()
            }
        codes = (label, group, mask)
        states = _step(model, states, inputs, codes, tokens=tokens, **place)
    if states is None:
        raise ValueError("batches is empty; there is nothing to take moments of.")
    return states


def _activations(
    model: nnx.Module,
    inputs: tuple[Any, ...],
    *,
    paths: tuple[str, ...],
    at: str,
    which: Any,
) -> dict[str, Array]:
    with capture_activations(model, paths, at=at, which=which) as kept:
        model(*inputs)
        return {path: kept[path] for path in paths}


def _shapes(model: nnx.Module, inputs: tuple[Any, ...], **place: Any) -> dict[str, Any]:
    # Traced once for each model and shape of inputs: a trace of 30 blocks takes as long
    # as some batches.
    graph, weights = nnx.split(model)
    return _traced.eval_shape(graph, weights, inputs, **place)


@partial(jax.jit, static_argnames=("graph", "paths", "at", "which"))
def _traced(
    graph: nnx.GraphDef[Any], weights: Any, inputs: tuple[Any, ...], **place: Any
):
    return _activations(nnx.merge(graph, weights), inputs, **place)


@partial(nnx.jit, static_argnames=("tokens", "paths", "at", "which"))
def _step(
    model: nnx.Module,
    states: dict[str, moments.MomentState],
    inputs: tuple[Any, ...],
    codes: tuple[ArrayLike, ArrayLike, ArrayLike | None],
    *,
    tokens: str,
    **place: Any,
) -> dict[str, moments.MomentState]:
    label, group, mask = codes
    found = _activations(model, inputs, **place)
    return {
        path: _added(state, found[path], label, group, mask, tokens)
        for path, state in states.items()
    }


def _empty(
    name: str, x: Any, size: int, n_classes: int, n_groups: int, scatter: str
) -> moments.MomentState:
    # A stack of modules has its layers before the examples.
    stacked = x.ndim > 3 or (x.ndim > 2 and x.shape[0] != size and x.shape[1] == size)
    if x.ndim < 2 or x.shape[stacked] != size:
        raise ValueError(
            f"The activations at {name!r} have shape {x.shape}, expected [{size}, d] or "
            f"[{size}, T, d], one entry a label, with a leading axis in a stack."
        )
    state = moments.init(
        x.shape[-1], n_classes=n_classes, n_groups=n_groups, scatter=scatter
    )
    if not stacked:
        return state
    return jax.tree.map(
        lambda leaf: jnp.tile(leaf, (x.shape[0],) + (1,) * leaf.ndim), state
    )


def _added(
    state: moments.MomentState,
    x: Array,
    label: ArrayLike,
    group: ArrayLike,
    mask: ArrayLike | None,
    tokens: str,
) -> moments.MomentState:
    if state.mass.ndim > 1:
        return jax.vmap(lambda s, y: _added(s, y, label, group, mask, tokens))(state, x)
    # Sums are the state's, in float32 at least.
    x = x.astype(state.mass.dtype)
    weights = None
    if x.ndim == 3:
        batch, length, d = x.shape
        if mask is None:
            kept = jnp.ones((batch, length), bool)
        else:
            kept = jnp.asarray(mask, bool)
            if kept.shape != (batch, length):
                raise ValueError(
                    f"mask has shape {kept.shape}, expected {(batch, length)}: one entry "
                    f"a token."
                )
        count = jnp.sum(kept, 1)
        # A text of no token at all is a row of no weight.
        weights = (count > 0).astype(x.dtype)
        if tokens == "last":
            last = jnp.clip(count - 1, 0)
            x = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
        elif tokens == "mean":
            total = jnp.sum(jnp.where(kept[..., None], x, 0), 1)
            x = total / jnp.clip(count, 1)[:, None].astype(x.dtype)
        else:
            label, group = (jnp.repeat(codes, length) for codes in (label, group))
            # Padding may hold anything, and no weight makes NaN harmless.
            x = jnp.where(kept[..., None], x, 0).reshape(-1, d)
            weights = kept.reshape(-1).astype(x.dtype)
    return moments.update(state, x, label, group, weights=weights)
