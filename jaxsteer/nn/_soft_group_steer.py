"""Maps averaged by the posterior of the group, which the layer's own probe tells."""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import PrecisionLike

from jaxsteer._types import Array, ArrayLike, DTypeLike, Float
from jaxsteer.maps import Map
from jaxsteer.nn._apply import check_features, posterior_of, steer_mixture
from jaxsteer.nn._layer import SteeringLayer
from jaxsteer.nn._variables import variable


class LinearProbe(Protocol):
    """What tells the groups of a row: ``softmax(weight x + bias)``."""

    @property
    def weight(self) -> ArrayLike:
        """Coefficients ``[G, d]``."""
        ...

    @property
    def bias(self) -> ArrayLike:
        """Constants ``[G]``."""
        ...


class SoftGroupSteer(SteeringLayer):
    """Moves each row by the posterior average of the groups' maps.

    ``x + strength * sum_a p_a(x) ((W_a - I) x + b_a)`` with ``p = softmax(probe(x))``:
    no group is needed at inference. Every map is applied to every row, O(G d^2) a row.

    Attributes:
        strength: Share of the way to go, see :class:`AffineSteer`.

    Args:
        maps: As :class:`GroupSteer`'s, with a leading axis ``[G]``.
        probe: A map to logits, ``weight [G, d]`` and ``bias [G]`` (a fitted logistic
            regression's, say); None starts from equal posteriors.
        strength: As :class:`AffineSteer`'s, and so are the arguments that follow.
        trainable: Whether optimizers see the maps.
        trainable_probe: Whether optimizers see the probe; None does as `trainable`.
        dtype: Precision of the products.
        param_dtype: Precision in which maps and probe are kept.
        precision: ``jax.lax.Precision`` of the products.
        sharding: Axis names of the input and output features.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> maps = AffineMap(jnp.stack([jnp.eye(1), 3 * jnp.eye(1)]), jnp.zeros((2, 1)))
        >>> SoftGroupSteer(maps)(jnp.array([[1.0]])).tolist()
        [[2.0]]
    """

    batch_axes = 1

    def __init__(
        self,
        maps: Map,
        probe: LinearProbe | None = None,
        *,
        strength: float | jax.Array = 1.0,
        trainable: bool = False,
        trainable_probe: bool | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = jnp.float32,
        precision: PrecisionLike = None,
        sharding: tuple[str | None, str | None] | None = None,
    ):
        super().__init__(
            maps,
            strength=strength,
            trainable=trainable,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            sharding=sharding,
        )
        n_groups, d = self.bias[...].shape
        kernel, bias = probe_arrays(probe, n_groups, d, param_dtype)
        learn = trainable if trainable_probe is None else trainable_probe
        names = None if sharding is None else (sharding[0], None)
        self.probe_kernel: nnx.Variable[Array] = variable(kernel, learn, names)
        self.probe_bias: nnx.Variable[Array] = variable(bias, learn)

    def posterior(self, x: Float[Array, "... d"]) -> Float[Array, "... G"]:
        """Return the probe's posterior of the groups, row by row."""
        check_features(self.residual(), x)
        return posterior_of(self.probe_kernel[...], self.probe_bias[...], x)

    def __call__(
        self,
        x: Float[Array, "B ... d"],
        posterior: Float[Array, "... G"] | None = None,
        *,
        strength: Float[Array, "..."] | float | None = None,
    ) -> Float[Array, "B ... d"]:
        """Steer activations.

        Args:
            x: ``[B, ..., d]``.
            posterior: ``[B, G]`` or with more of the axes of `x` before ``G``; None asks
                the probe, row by row.
            strength: A number, or ``[B]``, instead of the layer's.
        """
        return steer_mixture(
            self.residual(),
            x,
            self.posterior(x) if posterior is None else posterior,
            self.strength[...] if strength is None else strength,
            dtype=self.dtype,
            precision=self.precision,
        )


def probe_arrays(
    probe: LinearProbe | None, n_groups: int, d: int, dtype: DTypeLike | None
) -> tuple[jax.Array, jax.Array]:
    """Return a probe's kernel ``[d, G]`` and bias ``[G]``, zeros for None."""
    if probe is None:
        return jnp.zeros((d, n_groups), dtype), jnp.zeros((n_groups,), dtype)
    weight, bias = jnp.asarray(probe.weight), jnp.asarray(probe.bias)
    if weight.shape != (n_groups, d) or bias.shape != (n_groups,):
        raise ValueError(
            f"probe has weight {weight.shape} and bias {bias.shape}, expected "
            f"({n_groups}, {d}) and ({n_groups},): one row of logits for each map."
        )
    return weight.T.astype(dtype), bias.astype(dtype)
