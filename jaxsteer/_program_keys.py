"""All that a compiled program depends on, as a name that says it in any process.

A program that is kept beyond its process must never serve where another one would have
been compiled. Whatever cannot be named by its value raises :class:`Unnamed`, and nothing
is kept: families and optimizers of the user's own, patched functions, more than one
device, processors that do not say what they are.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import os
import platform
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsteer._package_state import PLAIN, Unnamed, code, held, sources
from jaxsteer.storage._hash import bytes_hash

_ENUMS = ("jaxsteer.", "jax.")  # whose members stand for one value in a release
_NODES = (types.NoneType, tuple, list, dict)
# Settings that say where programs are kept, not what they are.
_ASIDE = ("jax_compilation_cache_", "jax_persistent_cache_", "jax_enable_compilation_")
# Of Linux's description of a processor, what its compilers look at.
_PROCESSOR = {"vendor_id", "cpu family", "model", "model name", "stepping", "flags"}
_PROCESSOR |= {"Features", "CPU implementer", "CPU architecture", "CPU variant"}
_PROCESSOR |= {"CPU part", "CPU revision", "isa", "uarch"}


def program_name(
    fn: Any, static: Mapping[str, Any], tree: Any, leaves: Sequence[Any], *how: Any
) -> str:
    """The name of a program, a digest of what it is made from.

    Args:
        fn: The function.
        static: Its static arguments.
        tree: Structure of the others.
        leaves: Their arrays and numbers.
        *how: What else its compilation is told.

    Raises:
        Unnamed: If a part has no name.
    """
    modules = {fn.__module__, "jaxsteer._compilation", "jaxsteer._stages"}
    modules |= set(_modules(tree))
    parts = (
        held(fn, fn.__module__),
        named(dict(sorted(static.items()))),
        _structure(tree),
        [_argument(leaf) for leaf in leaves],
        named(how),
        _settings(),
        _surroundings(),
        sources(),
        code(modules),
    )
    return bytes_hash(repr(parts).encode())


def named(value: Any) -> Any:
    """A value as nested tuples of texts, which are equal where values are.

    Example:
        >>> named((1, "one"))
        ('tuple', ('int', '1'), ('str', "'one'"))
    """
    kind = type(value)
    if kind in PLAIN:
        return kind.__name__, repr(value)
    if kind in (tuple, list):
        return kind.__name__, *map(named, value)
    if kind is dict:
        return "dict", *((named(key), named(one)) for key, one in value.items())
    if isinstance(value, np.dtype):
        return "dtype", repr(value)
    if isinstance(value, enum.Enum) and _class_name(kind).startswith(_ENUMS):
        return _class_name(kind), value.name
    if dataclasses.is_dataclass(value) and _class_name(kind).startswith("jaxsteer."):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        if set(vars(value)) <= set(fields):
            return _class_name(kind), named(fields)
    raise Unnamed(f"a {kind.__name__}")


def _class_name(cls: type) -> str:
    """Where a class stands, if it does stand there."""
    found: Any = sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not cls:
        raise Unnamed(f"class {cls.__qualname__}")
    return f"{cls.__module__}.{cls.__qualname__}"


def _structure(tree: Any) -> Any:
    data = tree.node_data()
    if data is None:
        return "leaf"
    kind, more = data
    name = kind.__name__ if kind in _NODES else _class_name(kind)
    if kind not in _NODES and not name.startswith("jaxsteer."):
        raise Unnamed(f"node {name}")
    return name, named(more), *map(_structure, tree.children())


def _modules(tree: Any) -> Iterator[str]:
    """Those of the package whose classes a structure holds."""
    data = tree.node_data()
    if data is not None:
        if data[0] not in _NODES:
            yield data[0].__module__
        for child in tree.children():
            yield from _modules(child)


def _argument(leaf: Any) -> Any:
    """What of an argument programs are compiled for."""
    if type(leaf) in (bool, int, float, complex):
        return type(leaf).__name__
    array = isinstance(leaf, jax.Array) or type(leaf) is np.ndarray
    if not array and not isinstance(leaf, np.generic):
        raise Unnamed(f"a {type(leaf).__name__}")
    if not isinstance(leaf.dtype, np.dtype):
        raise Unnamed(f"dtype {leaf.dtype}")
    weak = bool(getattr(leaf, "weak_type", False))
    return str(leaf.shape), repr(leaf.dtype), leaf.dtype.byteorder, str(weak)


def _settings() -> Any:
    """All of JAX's, in this thread; few matter, but which ones depends on the release."""
    values = jax.config.values
    names = sorted(name for name in values if not name.startswith(_ASIDE))
    return [(name, named(getattr(jax.config, name, values[name]))) for name in names]


@functools.cache
def _surroundings() -> Any:
    """Versions, the device and its processor, and what the compiler is told from outside.

    JAX's own cache asks XLA for the processor's features, in a way of its own in each
    release; Linux tells them, too.
    """
    facts = Path("/proc/cpuinfo")
    devices = jax.devices()
    if len(devices) != 1 or devices[0].platform != "cpu" or jax.process_count() != 1:
        raise Unnamed("devices other than one processor")
    if not facts.exists():
        raise Unnamed("a processor")
    first = facts.read_text().split("\n\n")[0].splitlines()
    pairs = (line.partition(":")[::2] for line in first)
    processor = sorted((k, v) for k, v in pairs if k.strip() in _PROCESSOR)
    outside = [arg for arg in sys.argv if arg.startswith("--xla")]
    outside += sorted(
        f"{name}={value}"
        for name, value in os.environ.items()
        if name.startswith(("XLA_", "TF_XLA_", "PJRT_")) or name == "NPROC"
    )
    client = devices[0].client
    return (
        *(f"{name} {version(name)}" for name in ("jax", "jaxlib", "numpy")),
        sys.version,
        sys.platform,
        platform.machine(),
        f"{client.platform} {client.platform_version} {devices[0].device_kind}",
        str(len(os.sched_getaffinity(0))),
        processor,
        outside,
    )
