"""Known populations of one feature: what each method leaves of error and gaps."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Float
from jaxsteer.audit import bayes_rates
from jaxsteer.families import LogNormal, Normal
from jaxsteer.ideal import nearest_ideal
from jaxsteer.population import Population

REFERENCE = 1
INTERVENTIONS = (
    "original",
    "mean matching",
    "reweighing",
    "affirmative",
    "all groups",
)
# Costs of a false positive, that of a false negative being 1.
COST_RATIOS = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0)
FIGURES = ("bayes_error", "dp_gap", "eo_gap", "eodds_gap", "worst_gap", "kl")


def synthetic_populations(
    family: str = "normal",
    *,
    separations: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0),
    scales: tuple[float, ...] = (0.5, 1.0, 2.0),
    positives: tuple[float, ...] = (0.2, 0.35, 0.5),
) -> tuple[Population, Float[Array, "P 3"]]:
    """A grid of two classes by two groups, differing in what group 0 is given.

    Group 1 has classes at 0 and 2 with deviation 1 and half of its members positive.
    Group 0 is shifted by -0.5.

    Args:
        family: "normal" or "lognormal" (the same in the logarithm).
        separations: Distances of group 0's classes.
        scales: Deviations of group 0's positive class, the negative one having 1.
        positives: Shares of positives in group 0.

    Returns:
        Populations stacked along a leading axis ``P``, and their settings.

    Raises:
        ValueError: If the family is neither of the two.

    Example:
        >>> pops, settings = synthetic_populations(separations=(2.0,), scales=(1.0,))
        >>> pops.priors.shape, settings.shape
        ((3, 2, 2), (3, 3))
    """
    kinds = {"normal": Normal, "lognormal": LogNormal}
    if family not in kinds:
        raise ValueError(f"family={family!r} is not known; choose normal or lognormal.")
    settings = np.array(list(product(separations, scales, positives)))
    separation, scale, positive = settings.T
    one = np.ones_like(scale)

    def cells(
        negative_0: np.ndarray,
        positive_0: np.ndarray,
        negative_1: np.ndarray,
        positive_1: np.ndarray,
    ):
        rows = [[negative_0, negative_1], [positive_0, positive_1]]
        return jnp.asarray(np.moveaxis(np.array(rows), -1, 0))

    loc = cells(-0.5 * one, separation - 0.5, 0 * one, 2 * one)
    width = cells(one, scale, one, one)
    priors = cells(0.5 * (1 - positive), 0.5 * positive, 0.25 * one, 0.25 * one)
    return Population(priors, kinds[family](loc, width)), jnp.asarray(settings)


def intervene(pop: Population, intervention: str) -> Population:
    """The population after one of :data:`INTERVENTIONS`.

    Args:
        pop: A population of one feature, of two classes and two groups.
        intervention: One of them.

    Returns:
        The population after it.

    Example:
        >>> import jax
        >>> pops, _ = synthetic_populations(separations=(2.0,), scales=(1.0,))
        >>> pop = jax.tree.map(lambda leaf: leaf[0], pops)
        >>> moved = intervene(pop, "affirmative")
        >>> bool(pop.kl(pop) < moved.kl(pop))  # it costs something
        True
    """
    if intervention == "original":
        return pop
    if intervention == "reweighing":
        independent = jnp.sum(pop.priors, 1, keepdims=True) * jnp.sum(pop.priors, 0)
        return Population(independent, pop.conditionals)
    if intervention == "mean matching":
        return Population(pop.priors, _with_equal_means(pop))
    name = intervention.replace(" ", "_")
    return nearest_ideal(
        pop, intervention=name, reference=REFERENCE, differentiate="none"
    ).target


def _with_equal_means(pop: Population) -> Any:
    """Each group moved onto the reference group's mean, log-normals by a factor."""
    law: Any = pop.conditionals
    means = law.loc
    if isinstance(law, LogNormal):
        means = jnp.exp(law.loc + 0.5 * law.scale**2)
    share = pop.priors / jnp.sum(pop.priors, 0)
    mean = jnp.sum(share * means, 0)
    mean = jnp.log(mean) if isinstance(law, LogNormal) else mean
    return type(law)(law.loc + mean[REFERENCE] - mean, law.scale)


@partial(jax.jit, static_argnames="intervention")
def study(pops: Population, intervention: str) -> dict[str, Float[Array, " P"]]:
    """Exact figures of an intervention on many populations at once.

    Args:
        pops: Populations stacked along a leading axis ``P``.
        intervention: One of :data:`INTERVENTIONS`.

    Returns:
        ``[P]`` each: the Bayes error; gaps of the Bayes rule at even costs in selection
        (demographic parity), true positives (equal opportunity) and either rate
        (equalized odds); the worst rate gap over :data:`COST_RATIOS`; and the
        divergence of the result from the original, in nats. No samples are drawn.
    """

    def one(pop: Population):
        result = intervene(pop, intervention)
        ratios = jnp.asarray(COST_RATIOS, pop.priors.dtype)
        zero, unit = jnp.zeros_like(ratios), jnp.ones_like(ratios)
        costs = jnp.stack([jnp.stack([zero, unit]), jnp.stack([ratios, zero])])
        every = jax.vmap(lambda cost: bayes_rates(result, cost), -1)(costs)
        even = bayes_rates(result)
        return {
            "bayes_error": even.error,
            "dp_gap": even.selection_gap,
            "eo_gap": even.rate_gaps[1],
            "eodds_gap": jnp.max(even.rate_gaps),
            "worst_gap": jnp.max(jax.vmap(lambda rates: rates.rate_gaps)(every)),
            "kl": result.kl(pop),
        }

    return jax.vmap(one)(pops)


def study_table(family: str = "normal", **grid: Any) -> list[dict[str, Any]]:
    """Means and largest values over a grid, a row an intervention.

    Args:
        family: As for :func:`synthetic_populations`, like what follows.
        **grid: Values of the grid.

    Returns:
        Rows with the intervention's name and, for each figure, its mean and maximum.

    Example:
        >>> rows = study_table(separations=(1.0,), scales=(1.0,), positives=(0.3,))
        >>> [row["intervention"] for row in rows if row["worst_gap"] < 1e-5]
        ['affirmative', 'all groups']
    """
    pops, _ = synthetic_populations(family, **grid)
    rows = []
    for intervention in INTERVENTIONS:
        found = study(pops, intervention)
        row: dict[str, Any] = {"intervention": intervention}
        for name in FIGURES:
            row[name] = float(found[name].mean())
            row[f"{name}_max"] = float(found[name].max())
        rows.append(row)
    return rows
