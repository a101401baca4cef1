"""Submodules by path: find one, and put another in its place."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, MutableSequence
from typing import Any

from flax import nnx

Path = str | Iterable[str | int]


class Wrapper(nnx.Module):
    """A module around another, ``base``; other attributes are looked up in it."""

    base: Any
    # Whether paths lead through the wrapper as if it was not there.
    transparent = False

    def __getattr__(self, name: str) -> Any:
        # Only names that the wrapper lacks come here. Private ones belong to Flax.
        base = vars(self).get("base")
        if base is None or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(base, name)


class Slot:
    """The place of a submodule: its parent and the key under which it is kept."""

    def __init__(self, model: nnx.Module, path: Path):
        """Find `path` in `model`.

        Raises:
            ValueError: If the path is empty or leads nowhere; the message lists what is
                there.
        """
        keys = split_path(path)
        if not keys:
            raise ValueError("path is empty; name a submodule, such as 'layers.3'.")
        self.parent: Any = model
        # The place of the parent: a tuple is changed by putting another in its place.
        self._above: Slot | None = None
        for place, key in enumerate(keys):
            self.parent = _owner(self.parent, key)
            if not _has(self.parent, key):
                at = ".".join(keys[:place]) or "the model"
                raise ValueError(
                    f"path {'.'.join(keys)!r}: {at} has no {key!r}; it has "
                    f"{', '.join(_children(self.parent)) or 'no submodules'}."
                )
            self.key = key
            if place + 1 < len(keys):
                self._above = Slot._of(self.parent, key, self._above)
                self.parent = self.get()
        if isinstance(self.get(), nnx.Variable):
            owner = ".".join(keys[:-1]) or "the model"
            raise ValueError(
                f"path {'.'.join(keys)!r} leads to a parameter "
                f"({type(self.get()).__name__}), which is not called; name the module "
                f"that has it: {owner!r}."
            )
        if not callable(self.get()):
            raise ValueError(
                f"path {'.'.join(keys)!r} leads to a {type(self.get()).__name__}, which "
                f"is not called; name a module that is."
            )

    @classmethod
    def _of(cls, parent: Any, key: str, above: Slot | None) -> Slot:
        slot = cls.__new__(cls)
        slot.parent, slot.key, slot._above = parent, key, above
        return slot

    def get(self) -> Any:
        """Return what is there."""
        if isinstance(self.parent, MutableSequence | tuple):
            return self.parent[int(self.key)]
        if isinstance(self.parent, MutableMapping):
            return self.parent[self.key]
        return getattr(self.parent, self.key)

    def set(self, value: Any) -> None:
        """Put something else there."""
        if isinstance(self.parent, nnx.Pytree):
            # Flax is told what it is: a function was static, its wrapper holds data.
            leaf = not isinstance(value, tuple | nnx.Pytree)
            value = nnx.static(value) if leaf else nnx.data(value)
        if isinstance(self.parent, MutableSequence):
            self.parent[int(self.key)] = value
        elif isinstance(self.parent, MutableMapping):
            self.parent[self.key] = value
        elif isinstance(self.parent, tuple):
            self._set_in_tuple(value)
        else:
            setattr(self.parent, self.key, value)

    def _set_in_tuple(self, value: Any) -> None:
        items: Any = list(self.parent)
        items[int(self.key)] = value
        kind = type(self.parent)
        items = kind(*items) if hasattr(kind, "_fields") else tuple(items)
        assert self._above is not None, "a model is a module, no tuple"
        self.parent = items
        self._above.set(items)

    def chain(self) -> list[Any]:
        """Return the wrappers around what is there, outermost first, and the module."""
        found = [self.get()]
        while isinstance(found[-1], Wrapper):
            found.append(found[-1].base)
        return found

    def unwrap(self, wrapper: Wrapper) -> bool:
        """Take one wrapper out of those here; tell whether it was among them."""
        chain = self.chain()
        for place, module in enumerate(chain[:-1]):
            if module is wrapper:
                if place == 0:
                    self.set(wrapper.base)
                else:
                    chain[place - 1].base = wrapper.base
                return True
        return False


def split_path(path: Path) -> tuple[str, ...]:
    """Return the keys of ``"layers.3.mlp"``, ``"layers/3/mlp"`` or a sequence."""
    if isinstance(path, str):
        return tuple(key for key in path.replace("/", ".").split(".") if key)
    try:
        return tuple(str(key) for key in path)
    except TypeError:
        raise ValueError(
            f"path={path!r} must be a text, such as 'layers.3', or a sequence of keys."
        ) from None


def check_at(at: str) -> None:
    """Raise unless `at` is "input" or "output"."""
    if at not in ("input", "output"):
        raise ValueError(f"at={at!r} is not known; choose one of 'input', 'output'.")


def _owner(node: Any, key: str) -> Any:
    """The module that keeps `key`: what a wrapper holds, unless the key is its own."""
    while isinstance(node, Wrapper) and (node.transparent or key not in vars(node)):
        node = node.base
    return node


def _has(node: Any, key: str) -> bool:
    if isinstance(node, MutableSequence | tuple):
        return key.isdigit() and int(key) < len(node)
    if isinstance(node, MutableMapping):
        return key in node
    return hasattr(node, key)


def _children(node: Any) -> list[str]:
    if isinstance(node, MutableSequence | tuple):
        return [f"0..{len(node) - 1}"] if len(node) else []
    names = node if isinstance(node, MutableMapping) else vars(node)
    values = names.items() if isinstance(names, MutableMapping) else names
    containers = (tuple, list, dict)
    return [
        str(name)
        for name, value in values
        if isinstance(value, nnx.Module)
        or (isinstance(value, containers) and not str(name).startswith("_") and value)
    ]
