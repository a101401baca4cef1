"""GGUF control vectors of llama.cpp: one direction that is added at each layer."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from jaxsteer._types import ArrayLike, Float, PathLike
from jaxsteer.export._numpy import one_map
from jaxsteer.maps import Map


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdditivePart:
    """What a vector keeps of a map.

    Attributes:
        vector: ``[d]``, what is added to every state: the mean of ``map(x) - x``.
        loss: Share of the mean square of ``map(x) - x`` that the vector leaves out, from
            0 (the map adds one vector) to 1 (on average it adds nothing).
    """

    vector: Float[np.ndarray, " d"]
    loss: float


def to_control_vector(
    path: PathLike,
    maps: Mapping[int, Map],
    *,
    model_hint: str,
    states: Mapping[int, Float[ArrayLike, "n d"]] | None = None,
    strength: float | None = None,
    max_loss: float = 1.0,
) -> dict[int, AdditivePart]:
    """Write the additive part of maps as a control vector (``direction.N``).

    llama.cpp adds ``direction.N`` to the residual stream after block N, counted from 0;
    it has none for block 0. A map multiplies too, which a vector cannot: of all vectors
    the mean of ``map(x) - x`` is the nearest in mean square over the states, and the
    loss says how much of the map it is not.

    Args:
        path: The ``.gguf`` file, overwritten if it exists.
        maps: A map for each block, as :func:`to_numpy` takes it.
        model_hint: The model's architecture as its GGUF file names it, such as "llama".
        states: Activations ``[n, d]`` after each block, over which the mean is taken.
            None is for maps that do nothing but add.
        strength: Share of the way to go; None takes 1, or a layer's own.
        max_loss: Refuse to write if a loss is larger.

    Returns:
        For each block the vector and the loss.

    Raises:
        ImportError: If gguf is not installed.
        ValueError: If a map multiplies and has no states, block 0 is asked for, or a
            loss is above `max_loss`.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name, "shift.gguf")
        >>> shift = AffineMap(jnp.eye(2), jnp.ones(2))
        >>> parts = to_control_vector(path, {1: shift}, model_hint="llama")
        >>> parts[1].vector.tolist(), float(parts[1].loss)
        ([1.0, 1.0], 0.0)

    References:
        llama.cpp, ``common_control_vector_load`` and ``llama_adapter_cvec``; the keys
        ``controlvector.model_hint`` and ``controlvector.layer_count`` are those of its
        cvector-generator.
    """
    if not maps:
        raise ValueError("maps is empty; there is nothing to write.")
    if any(int(n) < 1 for n in maps):
        raise ValueError(
            f"maps has blocks {sorted(maps)}: llama.cpp adds nothing after block 0 or "
            f"before it; steer a later block, or export to_torch or to_easysteer."
        )
    parts = {}
    for n, map in sorted(maps.items()):
        arrays = one_map(map, strength, f"block {n}")
        parts[int(n)] = _additive(n, arrays, None if states is None else states.get(n))
        if parts[int(n)].loss > max_loss:
            raise ValueError(
                f"block {n}: a vector leaves out {parts[int(n)].loss:.3f} of the map, "
                f"more than max_loss={max_loss}; export the whole map instead: to_torch "
                f"or to_easysteer."
            )
    sizes = {part.vector.shape for part in parts.values()}
    if len(sizes) > 1:
        raise ValueError(
            f"The maps move different numbers of features: {sorted(sizes)}."
        )
    writer = _gguf().GGUFWriter(os.fspath(path), "controlvector")
    writer.add_string("controlvector.model_hint", model_hint)
    writer.add_uint32("controlvector.layer_count", len(parts))
    for n, part in parts.items():
        writer.add_float32(f"jaxsteer.loss.{n}", part.loss)
        writer.add_tensor(f"direction.{n}", part.vector)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return parts


def _additive(n: Any, arrays: Any, states: Any) -> AdditivePart:
    change, bias = arrays.change.astype(np.float64), arrays.bias.astype(np.float64)
    if states is None:
        if np.any(change):
            raise ValueError(
                f"The map of block {n} multiplies, and how much a vector keeps of that "
                f"depends on the states: pass states={{{n}: activations [n, d]}}."
            )
        return AdditivePart(vector=bias.astype(np.float32), loss=0.0)
    rows = np.asarray(states, np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(bias) or not len(rows):
        raise ValueError(
            f"states[{n}] has shape {rows.shape}, expected [n, {len(bias)}] with n at "
            f"least 1."
        )
    moves = rows @ change.T + bias
    vector = moves.mean(0)
    total = np.mean(np.sum(moves**2, 1))
    # The share about the mean, taken directly: a difference of squares would cancel.
    left = np.mean(np.sum((moves - vector) ** 2, 1))
    loss = float(left / total) if total > 0 else 0.0
    return AdditivePart(vector=vector.astype(np.float32), loss=loss)


def _gguf() -> Any:
    try:
        return import_module("gguf")
    except ModuleNotFoundError as error:
        raise ImportError(
            "Control vectors need gguf: pip install 'jaxsteer[llm]'."
        ) from error
