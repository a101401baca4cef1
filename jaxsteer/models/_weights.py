"""Weights by path: the one way in which every reader fills a model, and its packages."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsteer._types import PathLike


def need(name: str) -> Any:
    """Import a package, or say which extra brings it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = name.split(".")[0]
        if error.name != package:
            raise
        raise ImportError(
            f"This file needs the package {package!r}: pip install 'jaxsteer[llm]'."
        ) from error


@contextmanager
def reading(path: PathLike) -> Generator[None]:
    """What goes wrong while a file is read is a ValueError that names the file."""
    try:
        yield
    except ValueError as error:
        if os.fspath(path) in str(error):
            raise
        raise ValueError(f"{path} cannot be read: {error}") from error
    except (
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        MemoryError,
    ) as error:
        raise ValueError(
            f"{path} is damaged, or another kind of file: "
            f"{type(error).__name__}: {error}"
        ) from error


def check_layers(n_layers: Any, names: Collection[str]) -> None:
    """Refuse a header that claims more blocks than there are tensors, before any is made.

    Raises:
        ValueError: If it does, or its number of blocks is none.
    """
    if type(n_layers) is not int or not 0 <= n_layers <= len(names):
        raise ValueError(
            f"the header claims {n_layers!r} layers, and there are {len(names)} "
            f"tensors; the file may be damaged or cut off."
        )


def fill(make: Any, weights: dict[str, Any], dtype: Any) -> Any:
    """Make a model without drawing its first weights, and put `weights` into it.

    Args:
        make: A function without arguments that returns the model.
        weights: Arrays by path, such as ``"layers.0.attention.q.kernel"``.
        dtype: Precision in which the weights are kept.

    Raises:
        ValueError: If paths are missing or left over, or a shape does not fit.
    """
    model = nnx.eval_shape(make)
    slots = {}
    for path, value in nnx.iter_graph(model):
        if isinstance(value, nnx.Param):
            slots[".".join(map(str, path))] = value.shape
    missing, left = sorted(set(slots) - set(weights)), sorted(set(weights) - set(slots))
    if missing or left:
        found = [
            f"{len(paths)} are {what} ({', '.join(paths[:3])}{', ...' * (len(paths) > 3)})"
            for what, paths in (("missing", missing), ("left over", left))
            if paths
        ]
        raise ValueError(
            f"the weights do not fit the model that the header describes: "
            f"{' and '.join(found)}."
        )
    for path, shape in slots.items():
        value = np.asarray(weights[path])
        if value.shape != tuple(shape):
            raise ValueError(
                f"{path} has shape {value.shape} in the file, {tuple(shape)} in the "
                f"model that its header describes; the file may be cut off."
            )
        *keys, name = path.split(".")
        node = model
        for key in keys:
            node = node[int(key)] if key.isdigit() else getattr(node, key)
        setattr(node, name, nnx.Param(jnp.asarray(value, dtype)))
    return model


def pair_rotary_rows(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Reorder rows from halves ``(i, i + D/2)`` to neighbours ``(2i, 2i + 1)``.

    Hugging Face checkpoints turn the first half of each head against the second; this
    package, llama2.c and GGUF turn neighbours.

    Args:
        weight: ``[H * D, d]`` of queries or keys, one row a coordinate.
        n_heads: H.

    Raises:
        ValueError: If the rows are not those of so many heads of an even width.
    """
    if len(weight) % (2 * n_heads):
        raise ValueError(
            f"a matrix of queries or keys has {len(weight)} rows, which are no "
            f"{n_heads} heads of an even width, as the header claims."
        )
    halves = weight.reshape(n_heads, 2, -1, weight.shape[-1])
    return halves.swapaxes(1, 2).reshape(weight.shape)
