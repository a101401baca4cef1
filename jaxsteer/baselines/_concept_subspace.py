"""Gaussian concept subspace: a law of steering vectors instead of one vector.

Formula: coefficients ``w_1 .. w_M`` of linear probes on random parts of the data give a
normal law with their mean and their deviations, coordinate by coordinate. A steering
vector ``v`` is drawn within some deviations of the mean, and injected as ``h -> (1 - b)
h + b v mean|h| / mean|v|``.

Idea: one probe's direction depends on its sample. Many show which part of it is stable.

Siblings: mean matching has one vector, the difference of means; this one has no target
population, so its strength ``b`` is swept.

Paper: Zhao et al. 2025, "Beyond single concept vector: modeling concept subspace in
LLMs with Gaussian distribution", ICLR, arXiv 2410.00153.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._chunks import map_in_chunks
from jaxsteer._errors import check_codes, check_same_length, is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, Int, Key
from jaxsteer.baselines._logistic import Rows, fit_probe
from jaxsteer.baselines._moments import as_rows
from jaxsteer.maps import DiagonalMap
from jaxsteer.solvers import Reparametrized

# As many steps as the authors allow their probes.
_SOLVER = Reparametrized(max_steps=60)
_WIDTH = 8  # probes fitted side by side


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ConceptSubspace:
    """A normal law of concept vectors.

    Attributes:
        mean: ``[d]``.
        std: ``[d]`` deviations among the probes.
        level: ``[]`` mean of ``|x|`` over rows and features, the size of activations.
    """

    mean: Float[Array, " d"]
    std: Float[Array, " d"]
    level: Float[Array, ""]

    def sample(
        self, key: Key[Array, ""], n: int, *, sigma: int = 1
    ) -> Float[Array, "n d"]:
        """Draw vectors uniformly within `sigma` deviations of the mean, not within less.

        A vector with all coordinates within ``sigma - 1`` deviations is drawn again.

        Args:
            key: A random key.
            n: Number of vectors.
            sigma: 1, 2, ...
        """
        if isinstance(sigma, bool) or not isinstance(sigma, int) or sigma < 1:
            raise ValueError(f"sigma={sigma!r} must be a whole number, at least 1.")
        shape = self.mean.shape

        def draw(state: tuple[Array, Any]):
            key, _ = state
            key, now = jax.random.split(key)
            return key, jax.random.uniform(now, shape, self.mean.dtype, -sigma, sigma)

        def inside(state: tuple[Array, Array]):
            return jnp.max(jnp.abs(state[1])) < sigma - 1

        def one(key: Array):
            return jax.lax.while_loop(inside, draw, draw((key, None)))[1]

        steps = jax.vmap(one)(jax.random.split(key, n))
        return self.mean + steps * self.std

    def vector(
        self, key: Key[Array, ""], *, sigma: int = 1, n: int = 1000
    ) -> Float[Array, " d"]:
        """Average `n` drawn vectors, as the authors steer with."""
        return jnp.mean(self.sample(key, n, sigma=sigma), 0)

    def steer(
        self,
        h: Float[ArrayLike, "... d"],
        strength: Float[Array, ""] | float,
        *,
        vector: Float[Array, " d"] | None = None,
    ) -> Float[Array, "... d"]:
        """Inject a vector at the size of each row.

        Args:
            h: ``[..., d]`` activations.
            strength: ``b``; 0 changes nothing, below 0 steers away.
            vector: ``[d]``; None takes the mean.
        """
        h = jnp.asarray(h)
        v = self.mean if vector is None else vector
        ratio = jnp.mean(jnp.abs(h), -1, keepdims=True) / jnp.mean(jnp.abs(v))
        return (1 - strength) * h + strength * v * ratio

    def map(
        self,
        strength: Float[Array, ""] | float,
        *,
        vector: Float[Array, " d"] | None = None,
    ) -> DiagonalMap:
        """Inject a vector at the size that rows had on average: an affine map."""
        v = self.mean if vector is None else vector
        scale = (1 - strength) * jnp.ones_like(v)
        return DiagonalMap(scale, strength * v * self.level / jnp.mean(jnp.abs(v)))


def concept_subspace(
    x: Float[ArrayLike, "n d"],
    label: Int[ArrayLike, " n"],
    *,
    key: Key[Array, ""],
    n_probes: int = 100,
    n_rows: int | None = None,
    l2: float = 1.0,
) -> ConceptSubspace:
    """Fit the law of concept vectors from probes on random parts of the rows.

    Every probe draws `n_rows` rows with and as many without the concept, standardizes
    them, and fits a logistic regression without intercept; its coefficients, in the
    standardized units as published, are one concept vector. Cost O(probes n_rows d) for
    an evaluation, up to 60 each. Not differentiable.

    Args:
        x: ``[n, d]`` activations.
        label: ``[n]`` 1 for rows with the concept, 0 without; concrete.
        key: A random key.
        n_probes: Number of probes ``M``.
        n_rows: Rows of each kind for every probe; None takes a fifth of the rarer kind,
            1,000 at most (the authors: 1,000 of 5,000).
        l2: Penalty, in units where half of it times the squared coefficients is added to
            the SUM of the losses (the inverse of scikit-learn's ``C``).

    Returns:
        The law.

    Raises:
        ValueError: If shapes, values or options are unusable, or a kind has too few rows.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jax.random.normal(jax.random.key(0), (200, 2))
        >>> label = (x[:, 0] > 0).astype(int)
        >>> found = concept_subspace(x, label, key=jax.random.key(1), n_probes=4)
        >>> bool(found.mean[0] > 3 * abs(found.mean[1]))
        True

    References:
        Zhao et al. 2025, arXiv 2410.00153.
    """
    rows = as_rows("x", x)
    check_same_length(x=x, label=label)
    if not is_concrete(label):
        raise ValueError("label is traced; call concept_subspace outside of jit.")
    check_codes("label", label, 2)
    if n_probes < 2:
        raise ValueError(
            f"n_probes={n_probes} must be at least 2, to have a deviation."
        )
    if is_concrete(l2) and not l2 > 0:
        raise ValueError(f"l2={l2!r} must be positive.")
    kinds = [np.flatnonzero(np.asarray(label) == code) for code in (0, 1)]
    fewest = min(map(len, kinds))
    if n_rows is None:
        n_rows = min(max(fewest // 5, 2), 1000)
    if not 2 <= n_rows <= fewest:
        raise ValueError(
            f"n_rows={n_rows} must be between 2 and the rows of the rarer kind, {fewest}."
        )
    keys = jax.random.split(key, n_probes)
    penalty = jnp.asarray(l2, rows.dtype) / (2 * n_rows)
    found = _vectors(
        rows, jnp.asarray(kinds[0]), jnp.asarray(kinds[1]), keys, penalty, n_rows
    )
    return ConceptSubspace(
        mean=jnp.mean(found, 0), std=jnp.std(found, 0), level=jnp.mean(jnp.abs(rows))
    )


@partial(jax.jit, static_argnums=5)
def _vectors(
    rows: Array, without: Array, having: Array, keys: Array, l2: Array, n_rows: int
):
    hot = jax.nn.one_hot(jnp.repeat(jnp.arange(2), n_rows), 2, dtype=rows.dtype)
    share = jnp.full(2 * n_rows, 1 / (2 * n_rows), rows.dtype)

    def probe(key: Array):
        low, high = jax.random.split(key)
        chosen = [
            jax.random.choice(k, kind, (n_rows,), replace=False)
            for k, kind in ((low, without), (high, having))
        ]
        part = rows[jnp.concatenate(chosen)]
        std = jnp.std(part, 0)
        part = (part - jnp.mean(part, 0)) / jnp.where(std > 0, std, 1.0)
        # Two opposite rows of coefficients, each half of the one of a binary probe:
        # twice the penalty on both is that of the one.
        coef = fit_probe(
            Rows(part, hot, share, 2 * l2), intercept=False, solver=_SOLVER
        )
        return coef[1] - coef[0]

    return map_in_chunks(probe, keys, _WIDTH)
