"""Checkpoints and fitted networks: the arrays of a pytree in one stored file."""

from __future__ import annotations

import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer.storage import load, save

_KIND = "latent"


def write_tree(path: str | os.PathLike, tree: Any, about: dict[str, Any]) -> None:
    """Write a pytree's arrays in order, and what they are, replacing the file at once.

    Args:
        path: The file.
        tree: Pytree of arrays.
        about: JSON that says what wrote it.
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    save(path, {"leaves": leaves}, metadata={_KIND: about})


def read_about(path: str | os.PathLike) -> dict[str, Any]:
    """Read what a file says of itself.

    Raises:
        ValueError: If it is none of these files.
    """
    return _read(path)[0]


def read_tree(path: str | os.PathLike, like: Any) -> Any:
    """Read arrays into the structure of `like`.

    Raises:
        ValueError: If their number or their shapes are others.
    """
    _, found = _read(path)
    leaves, structure = jax.tree.flatten(like)
    shapes = [np.shape(leaf) for leaf in leaves]
    if [leaf.shape for leaf in found] != shapes:
        raise ValueError(
            f"{os.fspath(path)} holds {len(found)} arrays of other shapes than this "
            f"model's {len(leaves)}; it was written with other settings."
        )
    pairs = zip(found, leaves, strict=True)
    return jax.tree.unflatten(
        structure, [jnp.asarray(new, jnp.asarray(old).dtype) for new, old in pairs]
    )


def _read(path: str | os.PathLike) -> tuple[dict[str, Any], list[np.ndarray]]:
    with open(path, "rb") as file:
        is_archive = file.read(2) == b"PK"
    try:
        if is_archive:
            return _read_archive(path)
        stored = load(path)
        return stored.metadata[_KIND], stored["leaves"]
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"{os.fspath(path)} is no file that jaxsteer.latent wrote: {error}"
        ) from error


def _read_archive(path: str | os.PathLike) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Read a file of jaxsteer 0.1, which was an ``.npz`` archive."""
    with np.load(path, allow_pickle=False) as file:
        content = json.loads(str(file["about"]))
        if content.get("format") != 1:
            raise ValueError(f"it has the unknown format {content.get('format')}")
        return content["about"], [file[name] for name in file.files if name != "about"]
