"""What the package is at present: its source, and what has been patched of it.

A program that is kept on disk is the package's as it was when it was compiled. Both must
be the same when it is run, or it would answer for code that is another one now.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from jaxsteer.storage._hash import bytes_hash, file_hash

ROOT = Path(__file__).parent
PLAIN = (types.NoneType, bool, int, float, complex, str, bytes)
# Whose functions a module of the package may hold; any other is a patch.
_TRUSTED = {"jaxsteer", "jax", "jaxlib", "jaxtyping", "numpy", "optax"}
_TRUSTED |= sys.stdlib_module_names - {"unittest"}
_LATE = 1_000_000_000  # nanoseconds by which clocks of files may be behind


class Unnamed(Exception):
    """There is a value that has no name beyond its process."""


def sources() -> str:
    """A digest of the package's source; versions stand for that of other packages.

    No file may be newer than the package in memory, which would not be what it says: a
    file's time of change, which no tool sets, tells. Nor may another folder stand where
    it was imported from.

    Raises:
        Unnamed: If a file is newer, the folder is another one, or there are none.
    """
    package = sys.modules["jaxsteer"]
    loaded = getattr(package, "_IMPORTED", 0)
    if getattr(package, "_FOLDER", None) != ROOT.stat()[1:3]:  # inode and device
        raise Unnamed("a package in the place of another one")
    files = tuple(sorted(ROOT.rglob("*.py")))
    newest = max((path.stat().st_ctime_ns for path in files), default=loaded)
    if newest > loaded - _LATE:
        raise Unnamed("a package that has changed on the disk")
    return _digest(files)


@functools.cache
def _digest(files: tuple[Path, ...]) -> str:
    """Of contents: wheels that are built to be reproduced give all files one time."""
    hashes = [f"{path.relative_to(ROOT)} {file_hash(path)}" for path in files]
    return bytes_hash("\n".join(hashes).encode())


def code(names: Collection[str]) -> Any:
    """What the modules hold that some of them import from each other, as it is now.

    Constants by value and functions by origin, so that a patched one shows.
    """
    found: dict[str, Any] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            module = vars(sys.modules[name])
            own = sorted(key for key in module if not key.startswith("__"))
            found[name] = [(key, held(module[key], name)) for key in own]
            values = map(_unwrapped, module.values())
            origins = {getattr(value, "__module__", None) for value in values}
            waiting += [m for m in origins if isinstance(m, str) and _is_ours(m)]
    return sorted(found.items())


def _is_ours(module: str) -> bool:
    return module.startswith("jaxsteer.") and module in sys.modules


def _inside(value: Any) -> Any:
    """What a value wraps, or None."""
    if isinstance(value, functools.partial):
        return value.func
    if isinstance(value, property):
        return value.fget
    return getattr(value, "__wrapped__", None) or getattr(value, "__func__", None)


def _unwrapped(value: Any) -> Any:
    while (inner := _inside(value)) is not None:
        value = inner
    return value


def held(value: Any, module: str) -> Any:
    """A global of a module, or an attribute of one of its classes."""
    if type(value) in PLAIN:
        return type(value).__name__, repr(value)
    if isinstance(value, tuple | list):
        return [held(one, module) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(repr(held(one, module)) for one in value)
    if isinstance(value, dict):
        return [
            (held(key, module), held(one, module))
            for key, one in value.items()
            # Families of the user's own are registered, but are no part of a program
            # whose arguments are of others.
            if not isinstance(key, type) or key.__module__.startswith("jaxsteer.")
        ]
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        return [held(part, module) for part in parts]
    inner = _inside(value)
    if inner is not None:
        # What wraps a function may do anything with it.
        own = _function(value) if isinstance(value, types.FunctionType) else None
        if own is None:
            _trust(type(value).__module__)
        return type(value).__qualname__, own, held(inner, module)
    if isinstance(value, types.FunctionType):
        return _function(value)
    if isinstance(value, type):
        _trust(value.__module__)
        own = value.__module__ == module and value.__module__.startswith("jaxsteer.")
        methods = list(_methods(value)) if own else []
        return value.__module__, value.__qualname__, methods
    _trust(type(value).__module__)
    if dataclasses.is_dataclass(value) and _is_ours(type(value).__module__):
        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return type(value).__qualname__, [held(one, module) for one in fields]
    return type(value).__qualname__, str(getattr(value, "__name__", ""))


def _function(value: types.FunctionType) -> Any:
    """Where a function stands, and what it does."""
    origin = value.__globals__.get("__name__", "?")
    _trust(origin)
    if origin.startswith("jaxsteer.") and not _is_current(value, origin):
        raise Unnamed(f"an earlier {origin}")
    body = value.__code__
    return origin, value.__qualname__, body.co_firstlineno, zlib.crc32(body.co_code)


def _is_current(function: types.FunctionType, origin: str) -> bool:
    """Whether a function's module is the one that is imported now."""
    module = sys.modules.get(origin)
    return module is not None and function.__globals__ is vars(module)


def _methods(cls: type) -> Iterator[Any]:
    for name, value in sorted(vars(cls).items()):
        # Named tuples make theirs in a module of its own.
        made = name == "__new__" and issubclass(cls, tuple)
        if not made and isinstance(_unwrapped(value), types.FunctionType):
            yield name, held(value, cls.__module__)


def _trust(module: str) -> None:
    if module.partition(".")[0] not in _TRUSTED:
        raise Unnamed(f"what {module} put into the package")
