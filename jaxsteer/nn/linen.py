"""Linen twins of the steering layers: the same arithmetic, the same names of fields.

A twin is built from the same maps. Trainable maps are in the collection ``"params"``,
frozen ones in ``"steering"``; both come from ``init`` and go through ``apply``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from flax.typing import PrecisionLike

from jaxsteer._types import Array, ArrayLike, DTypeLike, Float, Int, Scalar
from jaxsteer.maps import Map
from jaxsteer.nn._apply import (
    check_features,
    posterior_of,
    steer,
    steer_groups,
    steer_mixture,
)
from jaxsteer.nn._residuals import Residual, residual_of
from jaxsteer.nn._soft_group_steer import LinearProbe, probe_arrays

__all__ = ["AffineSteer", "GroupSteer", "SoftGroupSteer"]


class _Once:
    """A field that is compared by identity: modules must hash, arrays do not."""

    def __init__(self, value: Any):
        self.value = value


def _hold(module: linen.Module, *names: str) -> None:
    for name in names:
        value = getattr(module, name)
        if not isinstance(value, _Once):
            object.__setattr__(module, name, _Once(value))


def _variable(
    module: linen.Module, trainable: bool, name: str, value: jax.Array
) -> Array:
    if trainable:
        return module.param(name, lambda key: value)
    return module.variable("steering", name, lambda: value).value


def _load(module: Any, batch: int) -> Residual:
    start = residual_of(module.maps.value, batch=batch, dtype=module.param_dtype)
    fields = {
        field.name: _variable(
            module, module.trainable, field.name, getattr(start, field.name)
        )
        for field in dataclasses.fields(start)
    }
    return type(start)(**fields)


class AffineSteer(linen.Module):
    """Linen twin of :class:`jaxsteer.nn.AffineSteer`.

    Attributes:
        maps: One map of `d` features.
        strength: Share of the way to go.
        trainable: Whether the map is in ``"params"`` or in ``"steering"``.
        dtype: Precision of the product; None takes that of the activations.
        param_dtype: Precision in which the map is kept.
        precision: ``jax.lax.Precision`` of the product.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> layer = AffineSteer(AffineMap(2 * jnp.eye(2), jnp.ones(2)))
        >>> x = jnp.array([[1.0, 2.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).tolist()
        [[3.0, 5.0]]
    """

    maps: Map
    strength: float = 1.0
    trainable: bool = False
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike | None = jnp.float32
    precision: PrecisionLike = None

    def __post_init__(self) -> None:
        _hold(self, "maps")
        super().__post_init__()

    @linen.compact
    def __call__(
        self, x: Float[Array, "... d"], *, strength: Scalar | None = None
    ) -> Float[Array, "... d"]:
        """Steer activations ``[..., d]``."""
        strength = self.strength if strength is None else strength
        residual = _load(self, 0)
        return steer(residual, x, strength, dtype=self.dtype, precision=self.precision)


class GroupSteer(linen.Module):
    """Linen twin of :class:`jaxsteer.nn.GroupSteer`; the group is always passed.

    Attributes:
        maps: Maps with a leading axis ``[G]``.
        strength: As :class:`AffineSteer`'s, and so are the fields that follow.
        trainable: Whether the maps are in ``"params"`` or in ``"steering"``.
        dtype: Precision of the product.
        param_dtype: Precision in which the maps are kept.
        precision: ``jax.lax.Precision`` of the product.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> bias = jnp.array([[0.0, 0.0], [1.0, 1.0]])
        >>> maps = AffineMap(jnp.tile(jnp.eye(2), (2, 1, 1)), bias)
        >>> layer, x, group = GroupSteer(maps), jnp.zeros((2, 2)), jnp.array([0, 1])
        >>> layer.apply(layer.init(jax.random.key(0), x, group), x, group).tolist()
        [[0.0, 0.0], [1.0, 1.0]]
    """

    maps: Map
    strength: float = 1.0
    trainable: bool = False
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike | None = jnp.float32
    precision: PrecisionLike = None

    def __post_init__(self) -> None:
        _hold(self, "maps")
        super().__post_init__()

    @linen.compact
    def __call__(
        self,
        x: Float[Array, "B ... d"],
        group: Int[ArrayLike, " B"],
        *,
        strength: Scalar | None = None,
    ) -> Float[Array, "B ... d"]:
        """Steer activations ``[B, ..., d]`` by the maps of their groups ``[B]``."""
        strength = self.strength if strength is None else strength
        maps = _load(self, 1)
        return steer_groups(
            maps, x, group, strength, dtype=self.dtype, precision=self.precision
        )


class SoftGroupSteer(linen.Module):
    """Linen twin of :class:`jaxsteer.nn.SoftGroupSteer`.

    Attributes:
        maps: Maps with a leading axis ``[G]``.
        probe: A map to logits, ``weight [G, d]`` and ``bias [G]``, or None.
        strength: As :class:`AffineSteer`'s, and so are the fields that follow.
        trainable: Whether the maps are in ``"params"`` or in ``"steering"``.
        trainable_probe: The same of the probe; None does as `trainable`.
        dtype: Precision of the products.
        param_dtype: Precision in which maps and probe are kept.
        precision: ``jax.lax.Precision`` of the products.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> bias = jnp.array([[0.0, 0.0], [1.0, 1.0]])
        >>> maps = AffineMap(jnp.tile(jnp.eye(2), (2, 1, 1)), bias)
        >>> layer, x = SoftGroupSteer(maps), jnp.zeros((1, 2))  # a probe that knows nothing
        >>> layer.apply(layer.init(jax.random.key(0), x), x).tolist()
        [[0.5, 0.5]]
    """

    maps: Map
    probe: LinearProbe | None = None
    strength: float = 1.0
    trainable: bool = False
    trainable_probe: bool | None = None
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike | None = jnp.float32
    precision: PrecisionLike = None

    def __post_init__(self) -> None:
        _hold(self, "maps", "probe")
        super().__post_init__()

    @linen.compact
    def __call__(
        self,
        x: Float[Array, "B ... d"],
        posterior: Float[Array, "... G"] | None = None,
        *,
        strength: Scalar | None = None,
    ) -> Float[Array, "B ... d"]:
        """Steer activations by the posterior average of the maps."""
        maps = _load(self, 1)
        check_features(maps, x)
        n_groups, d = maps.bias.shape
        held: Any = self.probe
        start = probe_arrays(held.value, n_groups, d, self.param_dtype)
        learn = self.trainable if self.trainable_probe is None else self.trainable_probe
        kernel = _variable(self, learn, "probe_kernel", start[0])
        bias = _variable(self, learn, "probe_bias", start[1])
        return steer_mixture(
            maps,
            x,
            posterior_of(kernel, bias, x) if posterior is None else posterior,
            self.strength if strength is None else strength,
            dtype=self.dtype,
            precision=self.precision,
        )
