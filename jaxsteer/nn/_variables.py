"""Variables of the steering layers: what an optimizer sees, and what it does not."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsteer.nn._residuals import Residual, axes_of


class SteeringParam(nnx.Param):
    """A trainable parameter of a steering layer.

    Optimizers built with ``wrt=nnx.Param`` see it; ``wrt=SteeringParam`` trains the
    steering and nothing else of a model.
    """


class SteeringConstant(nnx.Variable):
    """A number of a steering layer that no optimizer touches, such as a fitted map."""


class GroupIds(nnx.Variable):
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
    value: jax.Array, trainable: bool, names: tuple[str | None, ...] | None = None
) -> nnx.Variable:
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
