"""What the steering layers have in common, and the plain one: one map for every row."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.typing import PrecisionLike

from jaxsteer._errors import check_finite
from jaxsteer._types import Array, DTypeLike, Float, Scalar
from jaxsteer.maps import Map
from jaxsteer.nn._apply import steer
from jaxsteer.nn._residuals import Residual, residual_of
from jaxsteer.nn._variables import SteeringConstant, load, store

L = TypeVar("L", bound="SteeringLayer")


class SteeringLayer(nnx.Module):
    """A map or maps ``[G]``, kept as ``W - I`` and ``b``; subclasses say what moves."""

    batch_axes: ClassVar[int]  # leading axes of the maps

    bias: nnx.Variable[Array]

    def __init__(
        self,
        maps: Map,
        *,
        strength: Scalar = 1.0,
        trainable: bool = False,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = jnp.float32,
        precision: PrecisionLike = None,
        sharding: tuple[str | None, str | None] | None = None,
    ):
        residual = residual_of(maps, batch=self.batch_axes, dtype=param_dtype)
        store(self, residual, trainable=trainable, sharding=sharding)
        self.kind: type[Residual] = type(residual)
        check_finite("strength", strength)
        self.strength: SteeringConstant = SteeringConstant(
            jnp.asarray(strength, jnp.float32)
        )
        self.dtype = dtype
        self.precision = precision

    @classmethod
    def stack(
        cls: type[L], maps: Any, *args: Any, strength: Scalar = 1.0, **options: Any
    ) -> L:
        """Return one layer for each layer of a stack, which ``nnx.scan`` runs.

        Args:
            maps: As the class takes them, with one more leading axis ``[L]``.
            *args: Likewise, such as a probe for each layer.
            strength: A number for all of them, or ``[L]``.
            **options: As the class takes them.

        Returns:
            A layer whose variables have a leading axis ``[L]``; insert it at the path of
            a stack of `L` modules, whose scan takes it apart.

        Raises:
            ValueError: If the maps or the strengths have no leading axis of one length.

        Example:
            >>> import jax.numpy as jnp
            >>> from jaxsteer import AffineMap
            >>> from jaxsteer.nn import AffineSteer
            >>> maps = AffineMap(jnp.stack([jnp.eye(2)] * 3), jnp.ones((3, 2)))
            >>> layer = AffineSteer.stack(maps, strength=jnp.array([0.0, 1.0, 1.0]))
            >>> layer.bias.shape, layer.stack_shape
            ((3, 2), (3,))
        """
        shapes = {np.shape(leaf) for leaf in jax.tree.leaves((maps, args))}
        sizes = {shape[0] if shape else None for shape in shapes}
        if len(sizes) != 1 or None in sizes:
            raise ValueError(
                f"{cls.__name__}.stack takes maps with one leading axis [L] more, the "
                f"same for all, got arrays of shapes {sorted(shapes)}."
            )
        count = sizes.pop()
        strengths = jnp.asarray(strength, jnp.float32)
        if strengths.shape not in ((), (count,)):
            raise ValueError(
                f"strength has shape {strengths.shape}, expected a number or one for "
                f"each of the {count} layers."
            )

        def make(maps: Any, strength: Scalar, *args: Any) -> Any:
            return cls(maps, *args, strength=strength, **options)

        return nnx.vmap(make)(maps, jnp.broadcast_to(strengths, (count,)), *args)

    @property
    def width(self) -> int:
        """Number of features that the maps move."""
        return self.bias.shape[-1]

    @property
    def stack_shape(self) -> tuple[int, ...]:
        """``(L,)`` for one layer for each layer of a stack, else ``()``."""
        return self.bias.shape[: self.bias.ndim - 1 - self.batch_axes]

    def residual(self) -> Any:
        """Return ``W - I`` and ``b`` as they are now.

        Raises:
            ValueError: If this is a stack of layers outside of its scan, or one layer
                that a scan has cut into pieces.
        """
        missing = self.bias.ndim - 1 - self.batch_axes
        if missing:
            kind = type(self).__name__
            now = (
                "a stack of layers that no scan" if missing > 0 else "one layer that a"
            )
            raise ValueError(
                f"This {kind} is {now} scan or vmap has taken apart: its bias has shape "
                f"{self.bias.shape}. Modules in a stack take {kind}.stack(maps), one map "
                f"for each; other modules take one {kind}(maps)."
            )
        return load(self, self.kind)

    def to_map(self) -> Any:
        """Return the map, or the maps ``[G]``, at full strength."""
        return load(self, self.kind).to_map()

    def set_maps(self, maps: Any) -> None:
        """Put other maps in the place of these; what is compiled stays in use.

        Args:
            maps: Of the same kind and shapes, as the layer was made from.

        Raises:
            ValueError: If they are of another kind, or have other shapes.
        """
        batch = self.batch_axes + len(self.stack_shape)
        new = residual_of(maps, batch=batch, dtype=self.bias.dtype)
        names = [field.name for field in dataclasses.fields(self.kind)]
        old = load(self, self.kind)
        if type(new) is not self.kind or any(
            getattr(new, n).shape != getattr(old, n).shape for n in names
        ):
            raise ValueError(
                f"The new maps ({type(maps).__name__} of {new.bias.shape}) are not like "
                f"the old ones ({type(old.to_map()).__name__} of {old.bias.shape}); make "
                f"another layer, or convert them: maps.to_affine()."
            )
        for name in names:
            getattr(self, name)[...] = getattr(new, name)


class AffineSteer(SteeringLayer):
    """Moves activations ``[..., d]`` by one affine map.

    ``x + strength * ((W - I) x + b)``. The identity map leaves activations unchanged bit
    for bit, in any precision. Cost O(d^2) a row, O(d r) for a low-rank map.

    Attributes:
        strength: Share of the way to go, a scalar variable that may be set between
            calls without compiling anew: ``layer.strength[...] = 0.5``.

    Args:
        map: :class:`jaxsteer.AffineMap`, a low-rank map or a
            :class:`jaxsteer.maps.DiagonalMap` of `d` features.
        strength: 0 leaves activations as they are, 1 applies the map, more goes beyond.
        trainable: Whether the map is a :class:`SteeringParam`, which optimizers see, or
            a :class:`SteeringConstant`, which they do not.
        dtype: Precision of the product; None takes that of the activations. Sums are
            accumulated in float32 at least, and the output has the activations' dtype.
        param_dtype: Precision in which the map is kept.
        precision: ``jax.lax.Precision`` of the product; None takes JAX's default, TF32
            on some GPUs.
        sharding: Names of the mesh axes (or logical axes) of the input and output
            features; making the layer then needs a mesh (``jax.set_mesh``).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> layer = AffineSteer(AffineMap(2 * jnp.eye(2), jnp.ones(2)), strength=0.5)
        >>> layer(jnp.array([[1.0, 2.0]])).tolist()
        [[2.0, 3.5]]
    """

    batch_axes = 0

    def __init__(self, map: Map, **options: Any):
        super().__init__(map, **options)

    def __call__(
        self,
        x: Float[Array, "... d"],
        *,
        strength: Float[Array, "..."] | float | None = None,
    ) -> Float[Array, "... d"]:
        """Steer activations.

        Args:
            x: ``[..., d]``.
            strength: A number, or ``[B]`` for each example its own, instead of the
                layer's.
        """
        strength = self.strength[...] if strength is None else strength
        return steer(
            self.residual(),
            x,
            strength,
            dtype=self.dtype,
            precision=self.precision,
        )
