"""Variables of the steering layers: what an optimizer sees, and stacks of layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsteer._types import Array
from jaxsteer.nn._residuals import Residual, axes_of


class SteeringParam(nnx.Param[Any]):
    """A trainable parameter of a steering layer.

    Optimizers built with ``wrt=nnx.Param`` see it; ``wrt=SteeringParam`` trains the
    steering and nothing else of a model.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxsteer import AffineMap
        >>> from jaxsteer.nn import AffineSteer
        >>> layer = AffineSteer(AffineMap(jnp.eye(2), jnp.zeros(2)), trainable=True)
        >>> len(nnx.state(layer, SteeringParam))
        2
    """


class SteeringConstant(nnx.Variable[Any]):
    """A number of a steering layer that no optimizer touches, such as a fitted map."""


class GroupIds(nnx.Variable[Any]):
    """Group codes of the examples in a batch, read by the layers inside a model."""


def store(
    module: nnx.Module,
    residual: Residual,
    *,
    trainable: bool,
    sharding: tuple[str | None, str | None] | None,
) -> None:
    """Put each field of `residual` into a variable of `module`.

    Args:
        module: The layer.
        residual: What its maps add.
        trainable: Whether optimizers see the variables.
        sharding: Mesh (or logical) axis names of the input and the output features.
    """
    for field in dataclasses.fields(residual):
        value = getattr(residual, field.name)
        names = _names(field.name, value, sharding)
        setattr(module, field.name, variable(value, trainable, names))


def load(module: nnx.Module, kind: type[Residual]) -> Residual:
    """Read what :func:`store` put there."""
    return kind(
        **{f.name: getattr(module, f.name)[...] for f in dataclasses.fields(kind)}
    )


def variable(
    value: Array, trainable: bool, names: tuple[str | None, ...] | None = None
) -> nnx.Variable[Array]:
    """Return a trainable or a frozen variable, annotated with sharding names."""
    kind = SteeringParam if trainable else SteeringConstant
    if names is None:
        return kind(value)

    def make() -> jax.Array:
        # On the mesh of the context; the value itself may be from elsewhere.
        copy = jnp.copy(value)
        axes = jax.sharding.get_abstract_mesh().explicit_axes
        if axes and all(name is None or name in axes for name in names):
            # Older releases of JAX do not move there what says where it belongs.
            return jax.sharding.reshard(copy, jax.sharding.PartitionSpec(*names))
        return copy

    return kind(nnx.with_partitioning(make, names)())


def _names(
    field: str, value: jax.Array, sharding: Any
) -> tuple[str | None, ...] | None:
    if sharding is None:
        return None
    by_role = {"in": sharding[0], "out": sharding[1], None: None}
    axes = axes_of(field)
    return (None,) * (value.ndim - len(axes)) + tuple(by_role[axis] for axis in axes)


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
        for kind, layout_of in _AXES.items():
            if isinstance(node, kind):
                variable, axes = layout_of(node)
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
