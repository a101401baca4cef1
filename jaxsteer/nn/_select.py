"""Which of the arrays that a module takes, or returns, is meant.

Blocks of published models return tuples, dictionaries and dataclasses, in any order, and
the memory of a decoder (keys and values) among them. A place is never guessed from the
order: it is named, or it is the only one that can be meant.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsteer.nn._paths import Wrapper

Which = int | str | Sequence[int | str] | Callable[..., Any] | None
Place = tuple[Any, ...]
# The arguments of a call, by position and by name.
Call = tuple[tuple[Any, ...], dict[str, Any]]


def check_which(which: Which, name: str = "which") -> Any:
    """Return `which` in a form that hashes, or raise."""
    if which is None or callable(which):
        return which
    keys = (which,) if isinstance(which, int | str | np.integer) else which
    if isinstance(keys, Sequence) and keys:
        keys = tuple(int(k) if isinstance(k, np.integer) else k for k in keys)
        if all(type(key) in (int, str) for key in keys):
            return keys
    raise ValueError(
        f"{name}={which!r} names no place; pass an index, a key, the name of an "
        f"attribute, a sequence of them that leads deeper, or a function."
    )


def find_output(output: Any, which: Any, width: int | None) -> Place:
    """Return where the meant array is in what a module returned.

    Args:
        output: What the module returned.
        which: What :func:`check_which` returned.
        width: Features of the array, None where any number will do.

    Raises:
        ValueError: If there is no such array, or more than one. The message lists the
            floating arrays with their shapes.
    """
    if callable(which):
        return _identified(which(output), output, "output")
    if which is not None:
        return _checked(output, which, "output")
    if _is_array(output):
        return ()
    direct = [(key,) for key, _ in _entries(output)]
    return _only(output, direct, width, "output", _label)


def find_input(
    base: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    which: Any,
    width: int | None,
) -> Place:
    """Return where the meant array is in ``(args, kwargs)``.

    Names reach arguments that were passed by position, and indices those that were
    passed by keyword, where the signature of `base` tells.
    """
    call = (args, kwargs)
    if callable(which):
        return _identified(which(*args, **kwargs), call, "call")
    if which is not None:
        return _checked(call, (*_argument(base, call, which[0]), *which[1:]), "call")
    direct: list[Place] = [(0, i) for i in range(len(args))]
    direct += [(1, name) for name in kwargs]
    names = parameter_names(base)

    def label(place: Place) -> str:
        by_position = place[0] == 0 and place[1] < len(names)
        first = names[place[1]] if by_position else str(place[1])
        return first + "".join(f"[{key!r}]" for key in place[2:])

    return _only(call, direct, width, "call", label)


def get(tree: Any, place: Place) -> Any:
    """Return what is at a place."""
    for key in place:
        tree = _child(tree, key)
    return tree


def put(tree: Any, place: Place, value: Any) -> Any:
    """Return a copy of `tree` with `value` at a place; nothing else is copied deep."""
    if not place:
        return value
    return _with_child(tree, place[0], put(get(tree, place[:1]), place[1:], value))


def parameter_names(base: Any) -> list[str]:
    """Return the names of the arguments that a module's call takes by position."""
    while isinstance(base, Wrapper):
        base = base.base
    try:
        parameters = inspect.signature(base).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds]


def _only(
    tree: Any,
    direct: list[Place],
    width: int | None,
    what: str,
    label: Callable[[Place], str],
) -> Place:
    # Containers inside the container (the memory of a decoder is one) are not searched.
    fits = [
        place
        for place in direct
        if _is_floating(get(tree, place))
        and width in (None, np.shape(get(tree, place))[-1])
    ]
    if len(fits) == 1:
        return fits[0]
    arrays = [(p, a) for p, a in _walk(tree) if _is_array(a)]
    listed = ", ".join(f"{label(place)}: {_describe(a)}" for place, a in arrays)
    wanted = "floating arrays" + ("" if width is None else f" of {width} features")
    verb = "takes" if what == "call" else "returns"
    count = str(len(fits)) if fits else "no"
    raise ValueError(
        f"The module {verb} {count} {wanted} at the first level, so that which one is "
        f"meant must be said: which=... (an index, a key, an attribute, a sequence of "
        f"them, or a function). It {verb} {listed or 'no arrays'}."
    )


def _identified(found: Any, tree: Any, what: str) -> Place:
    if not _is_array(found):
        raise ValueError(
            f"which(...) returned a {type(found).__name__}, expected one of the arrays "
            f"of the {what}."
        )
    places = [place for place, value in _walk(tree) if value is found]
    if len(places) == 1:
        return places[0]
    if not places:
        raise ValueError(
            f"which(...) returned an array that is not in the {what}: it must pick one, "
            f"not compute another."
        )
    raise ValueError(
        f"which(...) returned an array that the {what} holds {len(places)} times "
        f"({', '.join(_label(p) for p in places)}); name the place by keys instead."
    )


def _checked(tree: Any, place: Place, what: str) -> Place:
    for depth in range(len(place)):
        parent = get(tree, place[:depth])
        try:
            if _is_array(parent):
                raise KeyError(place[depth])
            _child(parent, place[depth])
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            if what == "call" and depth == 1:
                raise ValueError(
                    f"which={place[1]!r} is none of the arguments of this call, which "
                    f"passes {len(tree[0])} by position and by keyword "
                    f"{', '.join(tree[1]) or 'none'}."
                ) from error
            has = ", ".join(repr(key) for key, _ in _entries(parent))
            inside = f" at {_label(place[:depth])}" if depth else ""
            kind = _describe(parent) if _is_array(parent) else type(parent).__name__
            raise ValueError(
                f"which={place!r}: the {what}{inside} is a {kind} and has no "
                f"{place[depth]!r}; it has {has or 'nothing to choose from'}."
            ) from error
    value = get(tree, place)
    if not _is_array(value):
        raise ValueError(
            f"which={place!r} leads to a {type(value).__name__} in the {what}, expected "
            f"an array."
        )
    return place


def _argument(base: Any, call: Call, key: int | str) -> Place:
    args, kwargs = call
    names = parameter_names(base)
    if isinstance(key, str):
        if key not in kwargs and key in names and names.index(key) < len(args):
            return (0, names.index(key))
        return (1, key)
    if key >= len(args) and key < len(names) and names[key] in kwargs:
        return (1, names[key])
    return (0, key)


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray)


def _is_floating(value: Any) -> bool:
    return (
        _is_array(value)
        and value.ndim > 0
        and jnp.issubdtype(value.dtype, jnp.floating)
    )


def _describe(array: Any) -> str:
    return f"{array.dtype}[{','.join(map(str, array.shape))}]"


def _label(place: Place) -> str:
    return "".join(f"[{key!r}]" for key in place) or "the array itself"


def _walk(node: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    entries = _entries(node)
    if not entries:
        yield place, node
    for key, value in entries:
        yield from _walk(value, (*place, key))


def _entries(node: Any) -> list[tuple[Any, Any]]:
    # Modules, variables and random streams are handed on as they are.
    if node is None or _is_array(node) or isinstance(node, nnx.Pytree | nnx.Variable):
        return []
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return [(f.name, getattr(node, f.name)) for f in dataclasses.fields(node)]
    if isinstance(node, Mapping):
        return list(node.items())
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return list(zip(node._fields, node, strict=True))  # type: ignore[attr-defined]
    if isinstance(node, tuple | list):
        return list(enumerate(node))
    children, _ = _one_level(node)
    return (
        [] if len(children) == 1 and children[0] is node else list(enumerate(children))
    )


def _child(node: Any, key: Any) -> Any:
    if isinstance(node, Mapping) and not dataclasses.is_dataclass(node):
        return node[key]
    if isinstance(key, str):
        return getattr(node, key)
    return node[key] if isinstance(node, tuple | list) else _one_level(node)[0][key]


def _with_child(node: Any, key: Any, value: Any) -> Any:
    if isinstance(node, Mapping) and not dataclasses.is_dataclass(node):
        if isinstance(node, MutableMapping):
            changed = copy.copy(node)
            changed[key] = value
            return changed
        return type(node)({**node, key: value})  # type: ignore[call-arg]
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        name = key if isinstance(key, str) else node._fields[key]  # type: ignore[attr-defined]
        return node._replace(**{name: value})  # type: ignore[attr-defined]
    if isinstance(key, str):
        changed = copy.copy(node)
        object.__setattr__(changed, key, value)
        return changed
    if isinstance(node, tuple | list):
        items = list(node)
        items[key] = value
        return items if isinstance(node, list) else tuple(items)
    children, treedef = _one_level(node)
    children[key] = value
    return treedef.unflatten(children)


def _one_level(node: Any) -> tuple[list[Any], Any]:
    return jax.tree.flatten(node, is_leaf=lambda child: child is not node)
