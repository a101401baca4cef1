"""Arrays and JSON in one ``.npz`` file: checkpoints and fitted networks, no pickle."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

FORMAT = 1


def write_tree(path: str | os.PathLike, tree: Any, about: dict[str, Any]) -> None:
    """Write a pytree's arrays in order, and what they are, replacing the file at once.

    Args:
        path: The file.
        tree: Pytree of arrays.
        about: JSON that says what wrote it.
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    text = json.dumps({"format": FORMAT, "about": about}, sort_keys=True)
    arrays = {f"leaf{i}": leaf for i, leaf in enumerate(leaves)}
    path = pathlib.Path(path)
    # Written beside it first: a run that is cut off leaves the old file whole.
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, about=np.array(text), allow_pickle=False, **arrays)
    partial.replace(path)


def read_about(path: str | os.PathLike) -> dict[str, Any]:
    """Read what a file says of itself.

    Raises:
        ValueError: If it is none of these files.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            content = json.loads(str(file["about"]))
    except (KeyError, ValueError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"{os.fspath(path)} is no file that jaxsteer.latent wrote: {error}"
        ) from error
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{os.fspath(path)} has format {content.get('format')}, expected {FORMAT}; "
            "it is from another version of jaxsteer."
        )
    return content["about"]


def read_tree(path: str | os.PathLike, like: Any) -> Any:
    """Read arrays into the structure of `like`.

    Raises:
        ValueError: If their number or their shapes are others.
    """
    read_about(path)
    leaves, structure = jax.tree.flatten(like)
    with np.load(path, allow_pickle=False) as file:
        found = [file[name] for name in file.files if name != "about"]
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
