"""Stacks of layers: modules whose variables have a leading axis, as for ``nnx.scan``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flax import nnx

# The variable that tells, and how many axes it has in a module that is no stack.
_AXES: dict[type, Callable[[Any], tuple[Any, int]]] = {
    nnx.Linear: lambda module: (module.kernel, 2),
    nnx.Embed: lambda module: (module.embedding, 2),
    nnx.Einsum: lambda module: (module.kernel, len(module.kernel_shape)),
    nnx.LayerNorm: lambda module: (module.scale or module.bias, 1),
    nnx.RMSNorm: lambda module: (module.scale, 1),
}


def stack_of(module: Any) -> tuple[int, ...] | None:
    """Return the leading axes of a module's variables, ``()`` if it is no stack.

    Known from Flax's own layers inside the module; None where it has none of them, or
    they do not agree.
    """
    if not isinstance(module, nnx.Module):
        return None
    found = set()
    for _, node in nnx.iter_graph(module):
        # Flax's own classes and what inherits from them without changing the layout.
        for kind, axes_of in _AXES.items():
            if isinstance(node, kind):
                variable, axes = axes_of(node)
                shape = getattr(variable, "shape", None)
                if shape is not None and len(shape) >= axes:
                    found.add(tuple(shape[: len(shape) - axes]))
    return found.pop() if len(found) == 1 else None


def check_stack(path: str, module: Any, layer: Any, stack: tuple[int, ...]) -> None:
    """Raise unless a layer for a stack `stack` of layers fits the module at `path`."""
    found = stack_of(module)
    if found is None or found == stack:
        return
    kind = type(layer).__name__
    if not found:
        raise ValueError(
            f"path {path!r} is one module, and the {kind} is a stack for "
            f"{_count(stack)} of them; insert one layer of it."
        )
    has = f"a stack for {_count(stack)}" if stack else "one layer"
    raise ValueError(
        f"path {path!r} is a stack of {_count(found)} modules, which a scan or vmap runs "
        f"one by one, and the {kind} is {has}; give it one map for each module: "
        f"{kind}.stack(maps) with a leading axis of {found[0]}. Steer some of them only "
        f"by layers=[...], a boolean for each."
    )


def _count(stack: tuple[int, ...]) -> str:
    return " x ".join(map(str, stack))
