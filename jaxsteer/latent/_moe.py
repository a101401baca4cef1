"""``RomeMoE``: experts and a gate as one module, and the plain networks beside it."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsteer._errors import check_choice
from jaxsteer._types import Array, Float

VARIANTS = ("standard", "fair_s", "fair_as")


class Mlps(nnx.Module):
    """Several networks of one hidden layer (ReLU), side by side.

    Args:
        width: Inputs.
        hidden: Hidden units.
        outputs: Outputs.
        count: Networks.
        rngs: Where the weights are drawn from, uniform within one over the root of the
            inputs.
    """

    def __init__(
        self, width: int, hidden: int, outputs: int, count: int, *, rngs: nnx.Rngs
    ):
        first, second = (count, width, hidden), (count, hidden, outputs)
        drawn = _draw(rngs.params(), first, second)
        kernels: list[nnx.Param[Array]] = [nnx.Param(value) for value in drawn]
        self.first: nnx.Param[Array] = kernels[0]
        self.first_bias: nnx.Param[Array] = kernels[1]
        self.second: nnx.Param[Array] = kernels[2]
        self.second_bias: nnx.Param[Array] = kernels[3]

    def __call__(self, x: Float[Array, "n c"]) -> Float[Array, "n K o"]:
        """Outputs of every network."""
        inner = jnp.einsum("nc,kch->nkh", x, self.first[...]) + self.first_bias[...]
        inner = jax.nn.relu(inner)
        return (
            jnp.einsum("nkh,kho->nko", inner, self.second[...])
            + (self.second_bias[...])
        )


@partial(jax.jit, static_argnums=(1, 2))
def _draw(key: Array, first: tuple[int, ...], second: tuple[int, ...]) -> list[Array]:
    """Weights and biases of two layers: one program, not one for each shape."""
    drawn = []
    for shape in (first, second):
        bound = 1 / math.sqrt(max(shape[1], 1))
        for size in (shape, (shape[0], shape[2])):
            key, own = jax.random.split(key)
            drawn.append(jax.random.uniform(own, size, minval=-bound, maxval=bound))
    return drawn


class RomeMoE(nnx.Module):
    """A gate that shares rows out among experts, ``f = sum_k softmax(gate)_k expert_k``.

    For classes the experts' probabilities are mixed, so that the output is a law too.

    Args:
        n_features: Columns ``a`` that are not sensitive.
        n_sensitive: Sensitive columns ``s``.
        n_classes: Classes, or None for a real outcome.
        n_experts: Experts ``K``.
        hidden: Hidden units of each expert.
        gate_hidden: Hidden units of the gate.
        variant: What the experts and the gate see: "standard" ``[a, s]`` and ``s``,
            "fair_s" ``a`` and ``s``, "fair_as" ``a`` and ``[a, s]``.
        rngs: Where the weights are drawn from.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> model = RomeMoE(3, 2, hidden=8, gate_hidden=4, rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((5, 3)), jnp.zeros((5, 2))).shape
        (5,)

    References:
        arXiv 2509.17411, section 3 and algorithm 1; the variants are those of its
        released code.
    """

    def __init__(
        self,
        n_features: int,
        n_sensitive: int,
        n_classes: int | None = None,
        *,
        n_experts: int = 3,
        hidden: int = 64,
        gate_hidden: int = 32,
        variant: str = "standard",
        rngs: nnx.Rngs,
    ):
        check_choice("variant", variant, VARIANTS)
        both = n_features + n_sensitive
        self.n_classes = n_classes
        self.variant = variant
        outputs = 1 if n_classes is None else n_classes
        width = both if variant == "standard" else n_features
        self.experts: Mlps = Mlps(width, hidden, outputs, n_experts, rngs=rngs)
        width = both if variant == "fair_as" else n_sensitive
        self.gate: Mlps = Mlps(width, gate_hidden, n_experts, 1, rngs=rngs)

    def parts(
        self, a: Float[Array, "n p"], s: Float[Array, "n q"]
    ) -> tuple[Float[Array, "n K"], Float[Array, "n K ..."]]:
        """Logarithms of the gate's shares, and the experts' outputs.

        Those are ``[n, K]`` means or ``[n, K, C]`` log-probabilities.
        """
        both = jnp.concatenate([a, s], -1)
        seen = both if self.variant == "standard" else a
        guide = both if self.variant == "fair_as" else s
        log_gates = jax.nn.log_softmax(self.gate(guide)[:, 0], -1)
        return log_gates, outputs(self.experts(seen), self.n_classes)

    def __call__(
        self, a: Float[Array, "n p"], s: Float[Array, "n q"]
    ) -> Float[Array, "n ..."]:
        """The mixture: ``[n]`` means, or ``[n, C]`` log-probabilities."""
        return mixed(*self.parts(a, s))


def outputs(found: Array, n_classes: int | None) -> Array:
    """Means, or the log-probabilities of classes."""
    return found[..., 0] if n_classes is None else jax.nn.log_softmax(found, -1)


def mixed(log_gates: Array, experts: Array) -> Array:
    """Mix means by shares, or log-probabilities in probability."""
    if experts.ndim == 2:
        return jnp.sum(jnp.exp(log_gates) * experts, -1)
    return jax.nn.logsumexp(log_gates[..., None] + experts, 1)
