"""Maps on disk that say what they are: what they do, where, and to whom."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxsteer._types import PathLike, PyTree
from jaxsteer.storage._file import load, save
from jaxsteer.storage._hash import check_hash, content_hash
from jaxsteer.storage._registry import registered_names

_KEY = "steering_map"
# How many axes of the first field belong to one map.
_OWN_AXES = {"maps.AffineMap": 2, "maps.LowRankMap": 2}
_MAPS = ("maps.AffineMap", "maps.LowRankMap", "maps.DiagonalMap", "maps.ConjugatedMap")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredMap:
    """A map from a file, and what the file says about it.

    Attributes:
        map: The map; leading axes are classes and groups, as `classes` and `groups` say.
        operation: What it does, such as ``"leace"`` or ``"affirmative"``.
        hook_point: Where in the model it belongs, such as ``"residual"``; None for
            features.
        layer: Which layer of the model, by number or name; None for features.
        dtype: Names of the types of its numbers, such as ``("float32",)``.
        groups: Names of the groups in the order of their codes, or None.
        classes: Names of the classes in the order of their codes, or None.
        metadata: What else was handed to :func:`save_map`.
        version: The version of jaxsteer that wrote the file.
        content_hash: Of the map; see :func:`jaxsteer.maps.content_hash`.
    """

    map: Any
    operation: str
    hook_point: str | None
    layer: int | str | None
    dtype: tuple[str, ...]
    groups: tuple[Any, ...] | None
    classes: tuple[Any, ...] | None
    metadata: dict[str, Any]
    version: str
    content_hash: str


def save_map(
    path: PathLike,
    map_: PyTree,
    *,
    operation: str,
    hook_point: str | None = None,
    layer: int | str | None = None,
    groups: Sequence[object] | None = None,
    classes: Sequence[object] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Write one map, or one for every group or cell, with what a reader must know.

    The file is one of :func:`save`; :func:`load` reads it too.

    Args:
        path: The file, overwritten if it exists.
        map_: An :class:`AffineMap`, :class:`LowRankMap`, :class:`DiagonalMap` or
            :class:`ConjugatedMap`.
        operation: What the map does, such as ``"leace"``.
        hook_point: Where in a model it belongs, such as ``"residual"``.
        layer: Which layer, by number or name.
        groups: Names of the groups in the order of their codes: integers or text.
        classes: Names of the classes, likewise.
        metadata: Anything else that is JSON.

    Returns:
        The content hash of the map.

    Raises:
        ImportError: If safetensors is not installed.
        ValueError: If something cannot be stored, or `groups` and `classes` do not count
            what the leading axes of the map do.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from jaxsteer.maps import AffineMap
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name, "map.safetensors")
        >>> map_ = AffineMap(jnp.ones((2, 3, 3)), jnp.zeros((2, 3)))
        >>> _ = save_map(path, map_, operation="mimic", layer=6, groups=["f", "m"])
        >>> found = load_map(path)
        >>> found.operation, found.layer, found.groups, found.dtype
        ('mimic', 6, ('f', 'm'), ('float32',))
    """
    if registered_names().get(type(map_)) not in _MAPS:
        listed = ", ".join(name.partition(".")[2] for name in _MAPS)
        raise ValueError(
            f"map_ must be one of {listed}, got {type(map_).__name__}; store other "
            f"results with jaxsteer.storage.save."
        )
    if not isinstance(operation, str) or not operation:
        raise ValueError(
            f"operation={operation!r} must be text that says what the map does."
        )
    names = {"classes": _names("classes", classes), "groups": _names("groups", groups)}
    _check_axes(map_, names)
    digest = content_hash(map_)
    about = {
        "operation": operation,
        "hook_point": hook_point,
        "layer": layer,
        "dtype": sorted({np.dtype(leaf.dtype).name for leaf in jax.tree.leaves(map_)}),
        **names,
        "content_hash": digest,
    }
    save(path, {"map": map_}, metadata={_KEY: about, "metadata": metadata or {}})
    return digest


def load_map(path: PathLike, *, expect_hash: str | None = None) -> StoredMap:
    """Read a map that :func:`save_map` wrote, and check it.

    Args:
        path: The file.
        expect_hash: The content hash that :func:`save_map` returned, written down
            elsewhere: a file with another map is refused.

    Returns:
        The map bit for bit, and what the file says about it.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If safetensors is not installed.
        ValueError: If the file is damaged, :func:`save_map` did not write it, or its
            map has not the expected hash.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from jaxsteer.maps import AffineMap
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name, "map.safetensors")
        >>> digest = save_map(path, AffineMap(jnp.eye(2), jnp.zeros(2)), operation="leace")
        >>> load_map(path, expect_hash=digest).operation
        'leace'
    """
    stored = load(path)
    about = stored.metadata.get(_KEY)
    if not isinstance(about, dict) or "map" not in stored.objects:
        raise ValueError(
            f"The file {path} holds {', '.join(stored.objects)} and was not written by "
            f"jaxsteer.storage.save_map; read it with jaxsteer.storage.load."
        )
    map_ = stored["map"]
    if content_hash(map_) != about["content_hash"]:
        raise ValueError(
            f"The file {path} is damaged: its map does not match its hash."
        )
    check_hash(about["content_hash"], expect_hash, path)
    return StoredMap(
        map=map_,
        operation=about["operation"],
        hook_point=about["hook_point"],
        layer=about["layer"],
        dtype=tuple(about["dtype"]),
        groups=None if about["groups"] is None else tuple(about["groups"]),
        classes=None if about["classes"] is None else tuple(about["classes"]),
        metadata=stored.metadata["metadata"],
        version=stored.version,
        content_hash=about["content_hash"],
    )


def _names(what: str, names: Sequence[Any] | None) -> list[Any] | None:
    if names is None:
        return None
    items = np.asarray(names).tolist() if isinstance(names, np.ndarray) else list(names)
    items = [item.item() if isinstance(item, np.generic) else item for item in items]
    if not all(type(item) in (int, str, bool) for item in items):
        raise ValueError(f"{what}={names!r} must be integers or text, in code order.")
    if len(set(items)) != len(items):
        raise ValueError(f"{what}={names!r} names one of them twice.")
    return items


def _check_axes(map_: PyTree, names: dict[str, list[Any] | None]) -> None:
    given = {what: len(items) for what, items in names.items() if items is not None}
    own = _OWN_AXES.get(registered_names()[type(map_)])
    if not given or own is None:
        return
    leading = jax.tree.leaves(map_)[0].shape[:-own]
    if leading not in ((), tuple(given.values())):
        counted = " and ".join(f"{size} {what}" for what, size in given.items())
        raise ValueError(
            f"The map has leading axes {list(leading)}, but {counted} are named; axes "
            f"are classes, then groups, with one name for each entry."
        )
