"""A map for each group, chosen by the group of each example."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx

from jaxsteer._errors import check_codes
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.nn._apply import steer_groups
from jaxsteer.nn._layer import SteeringLayer
from jaxsteer.nn._variables import GroupIds


class GroupSteer(SteeringLayer):
    """Moves each example of ``[B, ..., d]`` by the map of its group.

    Inside a model, where nobody passes a group, the codes come from
    :func:`set_groups`; they are a variable, so a jitted model sees new ones.

    Attributes:
        strength: Share of the way to go, see :class:`AffineSteer`.
        group: Codes of the current batch; absent until :func:`set_groups`. Checkpoints
            do without: ``nnx.state(model, nnx.Not(GroupIds))``.

    Args:
        maps: As :class:`AffineSteer`'s, with a leading axis ``[G]``, such as
            ``steering.group_maps``.
        strength: As :class:`AffineSteer`'s, and so are the arguments that follow.
        trainable: Whether optimizers see the maps.
        dtype: Precision of the product.
        param_dtype: Precision in which the maps are kept.
        precision: ``jax.lax.Precision`` of the product.
        sharding: Axis names of the input and output features.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> maps = AffineMap(jnp.stack([jnp.eye(1), 3 * jnp.eye(1)]), jnp.zeros((2, 1)))
        >>> GroupSteer(maps)(jnp.array([[1.0], [1.0]]), jnp.array([0, 1])).tolist()
        [[1.0], [3.0]]
    """

    group: GroupIds

    batch_axes = 1

    def __call__(
        self,
        x: Float[Array, "B ... d"],
        group: Int[ArrayLike, " B"] | None = None,
        *,
        strength: Float[Array, "..."] | float | None = None,
    ) -> Float[Array, "B ... d"]:
        """Steer activations.

        Args:
            x: ``[B, ..., d]``.
            group: ``[B]`` codes, a scalar for all, or None for those of
                :func:`set_groups`. A code outside ``0..G-1`` raises where its value is
                known; under ``jit`` it leaves the example as it is.
            strength: A number, or ``[B]``, instead of the layer's.

        Raises:
            ValueError: If no group was given, or its shape does not fit.
        """
        if group is None:
            # Absent until it is set: no number could say "unset" under jit, and
            # checkpoints take no empty arrays.
            if "group" not in vars(self):
                raise ValueError(
                    "GroupSteer has no groups: call it with group=..., or inside a "
                    "model set them first: jaxsteer.nn.set_groups(model, group)."
                )
            group = jnp.asarray(self.group[...])
        return steer_groups(
            self.residual(),
            x,
            group,
            self.strength[...] if strength is None else strength,
            dtype=self.dtype,
            precision=self.precision,
        )


def set_groups(model: nnx.Module, group: Int[ArrayLike, " B"] | int) -> int:
    """Set the groups of the next batch in every :class:`GroupSteer` of a model.

    Args:
        model: A model with steering layers inside; changed in place.
        group: ``[B]`` codes, or one code for all.

    Returns:
        The number of layers that were set.

    Raises:
        ValueError: If the model has no such layer, or a code is not one of its groups.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxsteer import AffineMap
        >>> from jaxsteer.nn import GroupSteer, insert_steering
        >>> model = nnx.Sequential(nnx.relu, nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
        >>> maps = AffineMap(jnp.tile(jnp.eye(2), (3, 1, 1)), jnp.zeros((3, 2)))
        >>> _ = insert_steering(model, "layers.1", GroupSteer(maps))
        >>> set_groups(model, jnp.array([0, 2]))  # layers that were set
        1
        >>> model(jnp.ones((2, 2))).shape
        (2, 2)
    """
    layers = [node for _, node in nnx.iter_graph(model) if isinstance(node, GroupSteer)]
    if not layers:
        raise ValueError(
            "The model has no GroupSteer layer; add one with insert_steering first."
        )
    for layer in layers:  # all of them before the first is set
        check_codes("group", group, layer.bias.shape[-2])
    codes = jnp.asarray(group)
    for layer in layers:
        # Each layer of a stack takes a copy: its scan gives one to each.
        layer.group = GroupIds(jnp.broadcast_to(codes, layer.stack_shape + codes.shape))
    return len(layers)
