"""Rates of a rule by simulation: quasi-Monte Carlo on normal cells, samples on any."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float, Int, Key
from jaxsteer.audit._bayes_rule import expected_costs, log_priors, pooled
from jaxsteer.families import DiagonalNormal
from jaxsteer.families._normal import LOG_2PI
from jaxsteer.linalg import cholesky_inverse, einsum
from jaxsteer.population import Population

REPLICATES = 8
# Which cells of ``[K, G]``: numbers, or arrays of them.
Index: TypeAlias = tuple[Any, ...]


class Whitened:
    """Normal cells by their roots: points from noise and densities at points.

    One factorization for each cell; what follows are products.
    """

    def __init__(self, laws: list[Any]):
        self.diagonal = isinstance(laws[0], DiagonalNormal)
        self.mean = jnp.stack([law.mean for law in laws])
        if self.diagonal:
            self.root = jnp.stack([law.scale for law in laws])
            self.inverse = 1 / self.root
            sizes = self.root
        else:
            cov = jnp.stack([law.cov for law in laws])
            self.root, self.inverse = cholesky_inverse(cov)
            sizes = jnp.diagonal(self.root, axis1=-2, axis2=-1)
        self.log_size = jnp.sum(jnp.log(sizes), -1)

    def points(self, index: Index, noise: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Points of one cell."""
        root = self.root[index]
        spread = noise * root if self.diagonal else einsum("nd,ed->ne", noise, root)
        return self.mean[index] + spread

    def log_prob(self, index: Index, x: Float[Array, "n d"]) -> Float[Array, "... n"]:
        """Log-densities of the cells at ``index``, a batch ``[...]``."""
        root, z = self.inverse[index], x - self.mean[index][..., None, :]
        if self.diagonal:
            z = z * root[..., None, :]
        else:
            z = einsum("...nd,...ed->...ne", z, root)
        constant = 0.5 * x.shape[-1] * LOG_2PI + self.log_size[index][..., None]
        return -0.5 * jnp.sum(z * z, -1) - constant


def qmc_rates(
    cells: Any,
    decider: Population | None,
    cost: Float[Array, "K K"],
    rule: str | Callable[..., Array],
    to_rows: Callable[[Array], Array],
    key: Key[Array, ""],
    *,
    n_points: int,
) -> tuple[Float[Array, "J K G"], Float[Array, "J K G"]]:
    """Rates of a rule on each cell and their standard errors.

    Args:
        cells: :class:`MultivariateNormal` or :class:`DiagonalNormal`, batch ``[K, G]``.
        decider: The population whose Bayes rule it is, of the same family as `cells`;
            None for a rule that is a function.
        cost: The cost matrix.
        rule: "group_aware", "group_blind", or the function itself.
        to_rows: From points to rows, for a function.
        key: Randomness of the shifts.
        n_points: Points for each cell, in all replicates; each has a power of two.

    Returns:
        Means and standard errors over the replicates.
    """
    k, g, d = cells.mean.shape
    laws = [cells] if decider is None else [cells, decider.conditionals]
    roots = Whitened(laws)
    log_prior = None if decider is None else log_priors(decider.priors)
    digits = _sobol_digits(n_points // REPLICATES, d)
    shifts = jax.random.bits(key, (REPLICATES, k, g, d), jnp.uint32)

    def decide(x: Array, a: Array):
        if log_prior is None:
            assert callable(rule)
            return rule(to_rows(x), a)
        if rule == "group_aware":
            log_joint = roots.log_prob((1, slice(None), a), x) + log_prior[:, a, None]
        else:
            log_joint = pooled(roots.log_prob((1,), x) + log_prior[..., None])
        return jnp.argmin(expected_costs(log_joint, cost), 0)

    def one(item: tuple[Array, Array, Array]):
        i, a, shift = item
        noise = _normal_points(jnp.asarray(digits), shift, cells.mean.dtype)
        decision = decide(roots.points((0, i, a), noise), a)
        return jnp.mean(decision == jnp.arange(k)[:, None], -1, dtype=noise.dtype)

    i, a = jnp.meshgrid(jnp.arange(k), jnp.arange(g), indexing="ij")
    i, a = (jnp.broadcast_to(code, (REPLICATES, k, g)).ravel() for code in (i, a))
    rates = jax.lax.map(one, (i, a, shifts.reshape(-1, d)))
    rates = jnp.moveaxis(rates.reshape(REPLICATES, k, g, k), -1, 1)
    error = jnp.std(rates, 0, ddof=1) / REPLICATES**0.5
    return jnp.mean(rates, 0), error


def _normal_points(
    digits: Int[Array, "n d"], shift: Int[Array, " d"], dtype: Any
) -> Float[Array, "n d"]:
    """Standard normal points from a net whose binary digits are flipped at random.

    References:
        Sobol' 1967; Owen 2003, on the variance of digitally shifted nets.
    """
    # The middle of its interval, of as many bits as the dtype can tell from 0 and 1.
    bits = 32 if dtype == jnp.float64 else 23
    whole = (digits ^ shift) >> (32 - bits)
    return jax.scipy.special.ndtri((whole.astype(dtype) + 0.5) / 2.0**bits)


def _sobol_digits(n_points: int, d: int) -> np.ndarray:
    """The first points of Sobol's sequence in 32-bit integers, a power of two of them.

    Computed while tracing: constants of the program, ``4 n d`` bytes.
    """
    from scipy.stats import qmc

    unit = qmc.Sobol(d, scramble=False).random_base2(n_points.bit_length() - 1)
    return (unit * 2.0**32).astype(np.uint32)


def mc_rates(
    pop: Population,
    decider: Population | None,
    cost: Float[Array, "K K"],
    rule: str | Callable[..., Array],
    to_rows: Callable[[Array], Array],
    key: Key[Array, ""],
    *,
    n_points: int,
) -> tuple[Float[Array, "J K G"], Float[Array, "J K G"]]:
    """Rates of a rule on each cell and their standard errors.

    Args:
        pop: The population to measure on, without a shared bijection.
        decider: The population whose Bayes rule it is; None for a rule that is a
            function.
        cost: The cost matrix.
        rule: "group_aware", "group_blind", or the function itself.
        to_rows: From points to rows, for a function.
        key: Randomness of the samples.
        n_points: Samples of each cell.

    Returns:
        Shares of the samples and their binomial standard errors.
    """
    k, g = pop.priors.shape

    def log_joint(decider: Population, i: Array, a: Array, x: Array):
        return decider.cell(i, a).log_prob(x) + log_priors(decider.priors)[i, a]

    def decide(x: Array, a: Array):
        if decider is None:
            assert callable(rule)
            return rule(to_rows(x), a)
        classes, groups = jnp.arange(k), jnp.arange(g)
        in_group = jax.vmap(partial(log_joint, decider, x=x), (0, None))
        if rule == "group_aware":
            logs = in_group(classes, a)
        else:
            logs = pooled(jax.vmap(in_group, (None, 0), 1)(classes, groups))
        return jnp.argmin(expected_costs(logs, cost), 0)

    def one(item: tuple[Array, Array, Array]):
        i, a, own_key = item
        decision = decide(pop.cell(i, a).sample(own_key, (n_points,)), a)
        hit = decision == jnp.arange(k)[:, None]
        return jnp.mean(hit, -1, dtype=pop.priors.dtype)

    i, a = (code.ravel() for code in jnp.meshgrid(jnp.arange(k), jnp.arange(g)))
    rates = jax.lax.map(one, (i, a, jax.random.split(key, k * g)))
    rates = jnp.swapaxes(rates.reshape(g, k, k), 0, 2)
    return rates, jnp.sqrt(rates * (1 - rates) / n_points)
