"""``bayes_rates``: what the Bayes rule of a population does in each group."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._compilation import broadcasting
from jaxsteer._errors import check_choice
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float, Key
from jaxsteer.audit._bayes_normal import exact_rates, two_class_region
from jaxsteer.audit._bayes_qmc import REPLICATES, mc_rates, qmc_rates
from jaxsteer.audit._bayes_quadrature import region_masses, summed_rates
from jaxsteer.audit._bayes_rule import (
    RULES,
    base_cells,
    cost_matrix,
    expected_costs,
    line_costs,
    log_priors,
    pooled,
    shares_in_group,
)
from jaxsteer.families import (
    DiagonalNormal,
    MultivariateNormal,
    Normal,
    parameters_valid,
)
from jaxsteer.population import Population, check_population

METHODS = ("auto", "exact", "sum", "quadrature", "qmc", "mc")
# Grid nodes of the quadrature for each cell, one for so many `n_points`.
POINTS_A_NODE = 128


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BayesRates:
    """Confusion rates of a rule in every group.

    Attributes:
        rates: ``[K, K, G]``; ``rates[j, i, a]`` is the probability that ``j`` is
            predicted where ``i`` is true, in group ``a``.
        selection: ``[K, G]``, the probability that ``j`` is predicted in group ``a``.
        error: ``[]`` probability of a wrong prediction.
        risk: ``[]`` expected cost.
        standard_error: ``[K, K, G]``, of `rates`: 0 where they are exact, the mass of
            the counts beyond the last for sums, the difference of two grids for
            quadrature, the standard error over replicates or samples for the others.
    """

    rates: Float[Array, "K K G"]
    selection: Float[Array, "K G"]
    error: Float[Array, ""]
    risk: Float[Array, ""]
    standard_error: Float[Array, "K K G"]

    @property
    def rate_gaps(self) -> Float[Array, " K"]:
        """Largest difference of groups in each true class; for two, FPR and TPR."""
        return jnp.max(jnp.ptp(self.rates, -1), -2)

    @property
    def selection_gap(self) -> Float[Array, ""]:
        """Largest difference of groups in a selection rate (demographic parity)."""
        return jnp.max(jnp.ptp(self.selection, -1), -1)


@broadcasting
def bayes_rates(
    pop: Population,
    cost: Float[Array, "K K"] | None = None,
    *,
    rule: str | Population | Callable[..., Array] = "group_aware",
    method: str = "auto",
    n_points: int = 2**14,
    key: Key[Array, ""] | None = None,
) -> BayesRates:
    """Confusion rates, selection rates and risk of a Bayes rule, group by group.

    The rule predicts ``argmin_j sum_i cost[j, i] q_ia f_ia(x)``, the first of equals.

    Args:
        pop: The population; two classes of univariate normals (or of a bijection that
            all cells share) are exact.
        cost: ``[K, K]``, ``cost[j, i]`` of predicting ``j`` where ``i`` is true; None is
            0/1 cost, whose risk is the Bayes error.
        rule: "group_aware"; "group_blind", which sums ``q_ia f_ia`` over groups; a
            population of the same family, whose group-aware Bayes rule is then measured
            on `pop`; or a function of rows (``[n]`` or ``[n, d]``) and a group code
            (``[]``, traced) to class codes ``[n]``.
        method: "exact" (group-aware rules of two univariate normal classes), "sum" (one
            discrete feature; counts up to `n_points`), "quadrature" (one continuous
            feature, any family with ``log_prob`` and a finite ``mean`` and ``cov``; its
            distribution function is used where it is known, and needed where a density
            is unbounded), "qmc" (quasi-Monte Carlo: multivariate normals), "mc"
            (simulation: whatever has ``sample`` and ``log_prob``, such as products) or
            "auto", the first that applies.
        n_points: Points for each cell: of the quasi-Monte Carlo, in 8 replicates, each
            rounded down to a power of two; in quadrature one grid node for 128.
        key: Randomness of the two Monte Carlo methods; None is ``jax.random.key(0)``.

    Returns:
        The rates. Exact ones are differentiable. Quadrature is good to 1e-8 in float64
        where decisions change between grid nodes at most twice; a function given as
        rule is only seen at the nodes. Cost O(K G) exact, O(K G n_points) in
        sums and quadrature, O(K^2 G n_points d^2) by quasi-Monte Carlo (``K^2 G^2`` for a
        group-blind rule).

    Raises:
        ValueError: On unknown options, or a method that does not fit the family.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> cells = js.Normal(jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.ones((2, 2)))
        >>> found = js.bayes_rates(js.Population(jnp.full((2, 2), 0.25), cells))
        >>> [round(float(rate), 3) for rate in found.rates[1, 1]]
        [0.691, 0.841]

    References:
        Genz and Bretz 2009, on randomized quasi-Monte Carlo for normals.
    """
    check_population(pop)
    check_choice("method", method, METHODS)
    if isinstance(rule, Population):
        check_population(rule, "rule")
        if rule.priors.shape != pop.priors.shape:
            raise ValueError(
                f"rule has {list(rule.priors.shape)} classes and groups, pop "
                f"{list(pop.priors.shape)}; they must be the same."
            )
    elif not callable(rule):
        check_choice("rule", rule, RULES)
    if not (isinstance(n_points, int) and n_points >= POINTS_A_NODE * REPLICATES):
        raise ValueError(
            f"n_points={n_points!r} must be an integer of at least "
            f"{POINTS_A_NODE * REPLICATES}."
        )
    cost = cost_matrix(cost, pop.n_classes, pop.priors.dtype)
    method = _method(pop, rule, method)
    decider = pop if isinstance(rule, str) else rule
    how = "group_aware" if isinstance(rule, Population) else rule
    key = jax.random.key(0) if key is None else key
    return _rates(
        pop,
        decider if isinstance(decider, Population) else None,
        cost,
        key,
        rule=how,
        method=method,
        n_points=n_points,
    )


def _method(pop: Population, rule: Any, method: str) -> str:
    """The method that fits, or an error that says which does."""
    cells = base_cells(pop.conditionals)
    blind = rule == "group_blind" if isinstance(rule, str) else False
    exact = isinstance(cells.law, Normal) and pop.n_classes == 2
    exact = exact and (not blind or pop.n_groups == 1)
    exact = exact and (isinstance(rule, str | Population))
    fits = {
        "exact": exact,
        "sum": cells.discrete,
        "quadrature": cells.on_line,
        "qmc": isinstance(cells.law, MultivariateNormal | DiagonalNormal),
        "mc": hasattr(cells.law, "sample") and hasattr(cells.law, "log_prob"),
    }
    fitting = [name for name, fit in fits.items() if fit]
    if not fitting or (method != "auto" and method not in fitting):
        raise ValueError(
            f"method={method!r} does not fit {type(pop.conditionals).__name__} with "
            f"{pop.n_classes} classes and this rule; fitting: {fitting or 'none'}."
        )
    return fitting[0] if method == "auto" else method


@partial(jax.jit, static_argnames=("rule", "method", "n_points"))
def _rates(
    pop: Population,
    decider: Population | None,
    cost: Array,
    key: Array,
    *,
    rule: Any,
    method: str,
    n_points: int,
) -> BayesRates:
    cells = base_cells(pop.conditionals)
    if decider is not None:
        law = base_cells(decider.conditionals).law
        decider = Population(decider.priors, _alike(law, cells.law))
    if method == "exact":
        assert decider is not None
        decided: Any = decider.conditionals
        region = two_class_region(decider.priors, decided, cost)
        rates = exact_rates(region, cells.law)
        spread = jnp.zeros_like(rates)
    elif method == "sum":
        scores = line_scores(decider, cost, rule, cells.to_rows, pop.n_groups)
        rates, spread = summed_rates(scores, cells.law, n_points)
    elif method == "quadrature":
        scores = line_scores(decider, cost, rule, cells.to_rows, pop.n_groups)
        windows = [cells.law]
        if decider is not None and decider.conditionals is not cells.law:
            windows.append(decider.conditionals)
        if rule == "group_blind":
            windows = [_shared(law) for law in windows]
        nodes = n_points // POINTS_A_NODE

        def on_grid(shift: Array):
            return region_masses(scores, cells.law, windows, nodes=nodes, shift=shift)

        first, second = jax.vmap(on_grid)(jnp.asarray([0.0, 0.5]))
        rates, spread = (first + second) / 2, jnp.abs(first - second)
    else:
        law = cells.law
        if decider is not None:
            law = _alike(law, decider.conditionals)
        rest = (decider, cost, rule, cells.to_rows, key)
        if method == "qmc":
            rates, spread = qmc_rates(law, *rest, n_points=n_points)
        else:
            measured = Population(pop.priors, law)
            rates, spread = mc_rates(measured, *rest, n_points=n_points)
    # A sum or an integral has a value where the parameters are none of a law. (Vectors'
    # are NaN without this, and every logit is one, infinite ones too.)
    laws = [cells.law] if decider is None else [cells.law, decider.conditionals]
    for law in laws:
        if not isinstance(law, MultivariateNormal) and not hasattr(law, "logits"):
            rates = jnp.where(parameters_valid(law), rates, jnp.nan)
    return summarize(pop.priors, rates, cost, spread)


def line_scores(
    decider: Population | None,
    cost: Array,
    rule: str | Callable[..., Array],
    to_rows: Callable[[Array], Array],
    n_groups: int,
) -> Callable[[Array], Array]:
    """Expected cost ``[K, G, n]`` of each prediction at points ``[G, n]``."""
    if decider is None:
        assert callable(rule)
        codes, classes = jnp.arange(n_groups), jnp.arange(len(cost))

        def given(x: Array):
            decision = jax.vmap(lambda row, a: rule(to_rows(row), a))(x, codes)
            return jnp.where(decision == classes[:, None, None], 0.0, 1.0)

        return given
    if rule != "group_blind":
        return line_costs(decider.conditionals, decider.priors, cost)
    log_prior = log_priors(decider.priors)
    wide = jax.tree.map(lambda leaf: leaf[:, :, None, None], decider.conditionals)

    def blind(x: Array):
        log_joint = wide.log_prob(x) + log_prior[:, :, None, None]
        return expected_costs(pooled(log_joint), cost)

    return blind


def _shared(law: Any) -> Any:
    """All cells as the windows of every group, batch ``[K G, G]``."""

    def spread(leaf: Array):
        flat = leaf.reshape((-1, 1, *leaf.shape[2:]))
        return jnp.broadcast_to(flat, (len(flat), leaf.shape[1], *leaf.shape[2:]))

    return jax.tree.map(spread, law)


def _alike(law: Any, other: Any) -> Any:
    """A diagonal law as a dense one beside a dense one."""
    if isinstance(law, DiagonalNormal) and isinstance(other, MultivariateNormal):
        return law.to_dense()
    return law


def summarize(
    priors: Float[Array, "K G"], rates: Array, cost: Array, standard_error: Array
) -> BayesRates:
    """What follows from the rates; no rule is one of Bayes under priors that are none."""
    rates = jnp.where(jnp.all(priors >= 0), rates, jnp.nan)
    share = shares_in_group(priors)
    wrong = 1 - jnp.eye(len(priors), dtype=rates.dtype)
    mass = priors * rates
    return BayesRates(
        rates=rates,
        selection=jnp.sum(share * rates, 1),
        error=jnp.sum(wrong[..., None] * mass),
        risk=jnp.sum(cost[..., None] * mass),
        standard_error=standard_error,
    )
