"""The classes that a file may name: those that these packages export, and no others."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import inspect

_PACKAGES = (
    "audit",
    "baselines",
    "channels",
    "families",
    "ideal",
    "latent",
    "maps",
    "moments",
    "pareto",
    "population",
    "solvers",
    "steering",
)


@functools.cache
def registered_classes() -> dict[str, type]:
    """Return every storable class by its public name, such as ``"maps.AffineMap"``.

    Storable are the frozen dataclasses, the named tuples and the enumerations under a
    public name.
    """
    return {n: c for package in _PACKAGES for n, c in _classes_of(package).items()}


def registered_class(name: str) -> type | None:
    """Return the class of a public name, None if there is none.

    Only its own package is loaded: all of them take half a second.
    """
    package = name.partition(".")[0]
    return _classes_of(package).get(name) if package in _PACKAGES else None


@functools.cache
def _classes_of(package: str) -> dict[str, type]:
    classes = {}
    module = importlib.import_module(f"jaxsteer.{package}")
    for name, value in vars(module).items():
        if name.startswith("_") or not inspect.isclass(value):
            continue
        is_ours = value.__module__.startswith(f"jaxsteer.{package}")
        if is_ours and (_is_record(value) or issubclass(value, enum.Enum)):
            classes[f"{package}.{name}"] = value
    return classes


@functools.cache
def registered_names() -> dict[type, str]:
    """Return the public name of every storable class."""
    return {cls: name for name, cls in registered_classes().items()}


def field_names(cls: type) -> tuple[str, ...]:
    """Return the names of the fields of a frozen dataclass or of a named tuple."""
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    return cls._fields  # type: ignore[attr-defined]


def default_fields(cls: type) -> frozenset[str]:
    """Return the names of the fields that may be left out."""
    if not dataclasses.is_dataclass(cls):
        return frozenset(cls._field_defaults)  # type: ignore[attr-defined]
    none = dataclasses.MISSING
    return frozenset(
        field.name
        for field in dataclasses.fields(cls)
        if field.default is not none or field.default_factory is not none
    )


def _is_record(cls: type) -> bool:
    if issubclass(cls, tuple):
        return hasattr(cls, "_fields")
    return dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
