"""One safetensors file for results: arrays as tensors, all else as JSON beside them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsteer._types import PathLike, PyTree
from jaxsteer.storage._atomic import write_bytes
from jaxsteer.storage._hash import check_hash, content_hash, format_1_hash
from jaxsteer.storage._tree import decode, encode

# Raised when an earlier version could not read a new file any more. Format 1 is that of
# jaxsteer 0.1, with a hash of its own; it is read for good.
FORMAT = 2
_READ = (1, 2)
_KEY = "jaxsteer"
_SINGLE = "result"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
    """What a file held.

    Attributes:
        objects: The objects by name; one object saved alone is called ``"result"``.
        metadata: What was handed to :func:`save`.
        version: The version of jaxsteer that wrote the file.
        sha256: Hash of the content (not of the bytes of the file).
    """

    objects: dict[str, Any]
    metadata: dict[str, Any]
    version: str
    sha256: str

    def __getitem__(self, name: str) -> Any:
        """Return one object."""
        if name not in self.objects:
            raise KeyError(
                f"{name!r} is not in this file; it holds {', '.join(self.objects)}."
            )
        return self.objects[name]


def save(
    path: PathLike,
    objects: PyTree,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Write results, populations or maps into one safetensors file.

    Arrays become tensors named after their place, as ``"maps.weight"``; the structure
    and the metadata are JSON in the header of the file. There is no pickle.

    Args:
        path: The file. One that exists is replaced at once, when the new one is whole.
        objects: One object, or a dictionary of objects by name. Storable are the frozen
            dataclasses and named tuples that jaxsteer exports, arrays, numbers, text,
            None, and tuples, lists and dictionaries of them.
        metadata: What a reader must know: operation, hook point, layer, names of groups
            and classes, and so on. Anything that is JSON (tuples come back as lists).

    Returns:
        The SHA-256 hash of the content, the same for the same content.

    Raises:
        ImportError: If safetensors is not installed.
        ValueError: If something cannot be stored, by its name.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from jaxsteer.maps import AffineMap
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name, "maps.safetensors")
        >>> maps = AffineMap(jnp.eye(2), jnp.zeros(2))
        >>> _ = save(path, {"maps": maps}, metadata={"groups": ["f", "m"]})
        >>> stored = load(path)
        >>> stored["maps"].weight.shape, stored.metadata["groups"]
        ((2, 2), ['f', 'm'])
    """
    module = _safetensors()
    if type(objects) is not dict:
        objects = {_SINGLE: objects}
    if not objects:
        raise ValueError("objects is empty; there is nothing to store.")
    for name in objects:
        if type(name) is not str or not name.replace("_", "a").isalnum():
            raise ValueError(
                f"The object name {name!r} must be text of letters, digits and "
                "underscores."
            )
    tensors: dict[str, np.ndarray] = {}
    content = {
        "format": FORMAT,
        "objects": {n: encode(n, value, tensors) for n, value in objects.items()},
        "metadata": _plain(metadata or {}),
    }
    digest = _hash(content, tensors)
    header = {**content, "version": _version(), "sha256": digest}
    write_bytes(path, module.save(tensors, {_KEY: json.dumps(header)}))
    return digest


def load(path: PathLike, *, expect_hash: str | None = None) -> Stored:
    """Read a file that :func:`save` wrote, and check it.

    Arrays come back bit for bit, as JAX arrays where they were such. (A float64 JAX
    array comes back as a NumPy array while JAX runs without x64, which would round it.)

    Args:
        path: The file.
        expect_hash: What :func:`save` returned, written down elsewhere: a file with
            another content is refused.

    Returns:
        A :class:`Stored`: objects, metadata, version and hash.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If safetensors is not installed.
        ValueError: If the file is damaged, from another program or a later version,
            names a class that jaxsteer does not store, or has not the expected hash.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from jaxsteer.maps import AffineMap
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name, "maps.safetensors")
        >>> digest = save(path, {"maps": AffineMap(jnp.eye(2), jnp.zeros(2))})
        >>> load(path, expect_hash=digest)["maps"].weight.shape
        (2, 2)
    """
    module = _safetensors()
    target = pathlib.Path(path)
    if not target.is_file():
        raise FileNotFoundError(f"The file {path} does not exist.")
    data = target.read_bytes()
    try:
        tensors = module.load(data)
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
    except Exception as error:
        # The reader raises its own class, and KeyError for unknown types of numbers.
        raise ValueError(
            f"The file {path} is damaged or no safetensors file: {error}"
        ) from error
    if _KEY not in metadata:
        raise ValueError(
            f"The file {path} was not written by jaxsteer.storage.save: it has no "
            f"{_KEY!r} entry in its metadata."
        )
    try:
        header = json.loads(metadata[_KEY])
        found, version = header["format"], header["version"]
        content = {key: header[key] for key in ("format", "objects", "metadata")}
        digest = header["sha256"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"The file {path} is damaged: its header is broken."
        ) from error
    if found not in _READ:
        raise ValueError(
            f"The file {path} has format {found} (jaxsteer {version}), and this is "
            f"jaxsteer {_version()}, which reads format {FORMAT} and older; upgrade "
            "jaxsteer."
        )
    try:
        same = (format_1_hash if found == 1 else _hash)(content, tensors) == digest
    except RecursionError:
        same = False  # JSON nested deeper than anything that is written
    if not same:
        raise ValueError(
            f"The file {path} is damaged: its content does not match its hash."
        )
    check_hash(digest, expect_hash, path)
    try:
        objects = {n: decode(node, tensors) for n, node in content["objects"].items()}
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ValueError(
            f"The file {path} (jaxsteer {version}) cannot be read: {error}."
        ) from error
    return Stored(
        objects=objects, metadata=content["metadata"], version=version, sha256=digest
    )


def _hash(content: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    text = json.dumps(content, sort_keys=True)
    return content_hash(
        (text, tuple((name, tensors[name]) for name in sorted(tensors)))
    )


def _plain(metadata: Any) -> dict[str, Any]:
    def from_numpy(value: Any) -> Any:
        if isinstance(value, np.generic | np.ndarray):
            return value.tolist()
        raise TypeError(f"{type(value).__qualname__} is not JSON")

    try:
        plain = json.loads(json.dumps(metadata, default=from_numpy, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"metadata must be JSON (text, finite numbers, lists, ...): {error}."
        ) from error
    if type(plain) is not dict:
        raise ValueError(f"metadata must be a dictionary, got {metadata!r}.")
    return plain


def _version() -> str:
    from jaxsteer import __version__

    return __version__


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ModuleNotFoundError as error:
        raise ImportError(
            "Storing results needs safetensors: pip install 'jaxsteer[cli]'."
        ) from error
    return safetensors.numpy
