"""One file that says what a steering is, where it belongs, and what it was fitted on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from jaxsteer import nn, storage
from jaxsteer._errors import check_choice
from jaxsteer._types import PathLike
from jaxsteer.export._numpy import residual_arrays
from jaxsteer.maps import Map

_KEY = "steering"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SteeringArtifact:
    """A steering from a file.

    Attributes:
        stored: The map, its operation, groups, classes, dtypes, version and hash, as
            :class:`jaxsteer.storage.StoredMap` has them.
        form: ``"additive"`` (``W`` is the identity), ``"diagonal"``, ``"low_rank"`` or
            ``"affine"``.
        path: The module of the model.
        at: ``"output"`` or ``"input"``.
        which: Which array, None for the only one that can be meant.
        layer_index: Number of the layer that the path names, or None.
        model: Name of the model, or None.
        model_hash: Hash of its weights, or None.
        fit: What the map was fitted on, such as counts of rows.
    """

    stored: storage.StoredMap
    form: str
    path: str
    at: str
    which: Any
    layer_index: int | None
    model: str | None
    model_hash: str | None
    fit: dict[str, Any]

    def layer(self, **options: Any) -> Any:
        """Return the steering layer, :class:`AffineSteer` or :class:`GroupSteer`."""
        _, bias, _ = residual_arrays(self.stored.map, None)
        if bias.ndim > 2:
            raise ValueError(
                f"The map has leading axes {bias.shape[:-1]}; a layer takes one map, or "
                f"one for each group."
            )
        kind = nn.AffineSteer if bias.ndim == 1 else nn.GroupSteer
        return kind(self.stored.map, **options)

    def insert(self, model: nnx.Module, **options: Any) -> nn.Insertion:
        """Insert it where it belongs, as :func:`jaxsteer.nn.insert_steering`."""
        place = {"at": self.at, "which": self.which, **options}
        return nn.insert_steering(model, self.path, self.layer(), **place)


def save_steering(
    file: PathLike,
    map: Map,
    *,
    operation: str,
    path: str,
    at: str = "output",
    which: int | str | Sequence[int | str] | None = None,
    layer_index: int | None = None,
    groups: Sequence[object] | None = None,
    classes: Sequence[object] | None = None,
    model: str | None = None,
    model_hash: str | None = None,
    fit: Mapping[str, object] | None = None,
) -> str:
    """Write one safetensors file with the map and, as JSON, what a reader must know.

    Args:
        file: The file, overwritten if it exists.
        map: A map, or one for each group, that :func:`jaxsteer.storage.save_map` takes.
        operation: What it does, such as ``"affirmative"`` or ``"leace"``.
        path: The module of the model, such as ``"layers.3"``.
        at: ``"output"`` or ``"input"``.
        which: As :func:`jaxsteer.nn.insert_steering` takes it, but no function.
        layer_index: Number of the layer, for engines that count them. None takes the
            only number in `path`, if there is one.
        groups: Names of the groups in the order of their codes.
        classes: Names of the classes, likewise.
        model: Name of the model.
        model_hash: Hash of its weights.
        fit: What the map was fitted on: anything that is JSON.

    Returns:
        The content hash of the map.

    Raises:
        ImportError: If safetensors is not installed.
        ValueError: If the map or a description cannot be stored.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name, "steering.safetensors")
        >>> map_ = AffineMap(jnp.eye(2), jnp.ones(2))
        >>> _ = save_steering(path, map_, operation="affirmative", path="layers.3")
        >>> load_steering(path).layer_index
        3
    """
    check_choice("at", at, ("output", "input"))
    if callable(which):
        raise ValueError("which is a function, which no file can hold; name the place.")
    keys = None if which is None else which
    if isinstance(keys, tuple | list):
        keys = list(keys)
    if layer_index is None:
        numbers = [
            int(key) for key in path.replace("/", ".").split(".") if key.isdigit()
        ]
        layer_index = numbers[0] if len(numbers) == 1 else None
    about = {
        "form": _form(map),
        "path": path,
        "at": at,
        "which": keys,
        "layer_index": layer_index,
        "model": model,
        "model_hash": model_hash,
        "fit": dict(fit or {}),
    }
    return storage.save_map(
        file,
        map,
        operation=operation,
        hook_point=f"{path}:{at}",
        layer=layer_index,
        groups=groups,
        classes=classes,
        metadata={_KEY: about},
    )


def load_steering(file: PathLike) -> SteeringArtifact:
    """Read a file of :func:`save_steering`, and check it.

    Args:
        file: The file.

    Returns:
        The map, and what the file says of it; ``.insert(model)`` puts it in place.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or another function wrote it.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name, "steering.safetensors")
        >>> map_ = AffineMap(jnp.eye(2), jnp.ones(2))
        >>> _ = save_steering(path, map_, operation="affirmative", path="layers.3")
        >>> load_steering(path).stored.map(jnp.zeros(2)).tolist()
        [1.0, 1.0]
    """
    stored = storage.load_map(file)
    about = stored.metadata.get(_KEY)
    if not isinstance(about, dict):
        raise ValueError(
            f"The file {file} was not written by jaxsteer.export.save_steering; read it "
            f"with jaxsteer.storage.load_map."
        )
    which = about["which"]
    about = {**about, "which": tuple(which) if isinstance(which, list) else which}
    return SteeringArtifact(stored=stored, **about)


def _form(map: Map) -> str:
    change, _, _ = residual_arrays(map, None)
    if not np.any(change):
        return "additive"
    if hasattr(map, "u"):
        return "low_rank"
    return "diagonal" if hasattr(map, "scale") else "affine"
