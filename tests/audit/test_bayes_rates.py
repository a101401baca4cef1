"""Rates of Bayes rules: closed form, quadrature and quasi-Monte Carlo against others."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, ndtr

import jaxsteer as js
from tests.audit.rules import (
    COSTS,
    Logistic,
    Waiting,
    numpy_rule,
    rates_by_quantiles,
    ratio_cost,
)
from tests.ideal.problems import bayes_rates as oracle
from tests.ideal.problems import random_multivariate, random_univariate

MATRICES = jnp.asarray(np.stack([ratio_cost(c) for c in COSTS]))


def _population(loc, scale, priors=((0.25, 0.25), (0.25, 0.25))):
    cells = js.Normal(jnp.asarray(loc), jnp.asarray(scale))
    return js.Population(jnp.asarray(priors), cells)


@partial(jax.jit, static_argnames=("method", "rule"))
def _over_costs(pop, matrices, method, rule="group_aware"):
    def one(cost):
        return js.bayes_rates(pop, cost, method=method, rule=rule)

    return jax.lax.map(one, matrices)


def test_exact_rates_equal_the_oracle(eps):
    rng = np.random.default_rng(0)
    for _ in range(20):
        pop = random_univariate(rng, 2, 2)
        found = _over_costs(pop, MATRICES, "exact")
        expected = np.stack([oracle(pop, c) for c in COSTS])
        ours = jnp.stack(
            [found.rates[:, 1, 1], found.rates[:, 1, 0], found.selection[:, 1]], 1
        )
        np.testing.assert_allclose(ours, expected, atol=max(1e-12, 300 * eps))
        assert not found.standard_error.any()


HARD = {
    "equal scales": ([[0, 1], [2, -1]], [[1, 2], [1, 2]]),
    "nearly equal scales": ([[0, 1], [2, -1]], [[1, 2], [1 + 1e-6, 2 - 1e-5]]),
    "no root": ([[0, 0], [0, 0.1]], [[1, 1], [1.5, 0.5]]),
    "a narrow class": ([[0, 0], [0.7, 3]], [[1, 1], [1e-3, 1e-3]]),
    "a wide class": ([[0, 0], [0.7, 3]], [[1, 1], [1e3, 300]]),
    "equal classes": ([[0, 1], [0, 1]], [[1, 2], [1, 2]]),
    "far classes": ([[0, 0], [30, -50]], [[1, 1], [1, 2]]),
    "far from zero": ([[100, 100], [101, 99]], [[1, 1], [1, 1.2]]),
}
TWISTED = [
    [[0.0, 1.0], [0.7, 0.0]],
    [[1.0, 0.0], [0.0, 0.6]],  # right answers cost: the rule is turned around
    [[0.0, 0.0], [1.0, 0.0]],  # nothing speaks for class 1
    [[1.0, 1.0], [0.0, 0.0]],  # nor here for class 0
    [[0.2, 2.0], [1.0, 0.1]],
]


@pytest.mark.parametrize("case", HARD)
def test_hard_cases_equal_counting(case, eps):
    priors = [[0.3, 0.1], [0.2, 0.4]]
    pop = _population(*(np.asarray(leaf, float) for leaf in HARD[case]), priors)
    for cost in TWISTED:
        found = js.bayes_rates(pop, jnp.asarray(cost))
        expected = rates_by_quantiles(pop, numpy_rule(pop, cost, "group_aware"))
        # Twice the oracle's resolution, and what rounding of far locations moves.
        np.testing.assert_allclose(found.rates, expected, atol=5e-5 + 1e3 * eps)
        np.testing.assert_allclose(found.rates.sum(0), 1, atol=10 * eps)


def test_empty_cells_are_never_predicted_where_they_are_free():
    pop = _population([[0.0, 0.0], [1.0, 1.0]], np.ones((2, 2)), [[0.5, 0], [0, 0.5]])
    found = js.bayes_rates(pop)
    assert found.rates[0, :, 0].tolist() == [1, 1]
    assert found.rates[1, :, 1].tolist() == [1, 1]
    assert float(found.error) == 0


def test_quadrature_equals_exact(x64):
    rng = np.random.default_rng(1)
    for _ in range(10):
        pop = random_univariate(rng, 2, 2)
        exact = _over_costs(pop, MATRICES, "exact")
        found = _over_costs(pop, MATRICES, "quadrature")
        assert jnp.max(jnp.abs(found.rates - exact.rates)) < 1e-8
        assert jnp.max(jnp.abs(found.risk - exact.risk)) < 1e-8 * COSTS[-1]
        assert jnp.max(found.standard_error) < 1e-8


def test_two_changes_between_neighbors_are_seen(x64):
    pop = _population([[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.5, 0.5]])
    for width in (1e-2, 1e-4, 1e-5):
        # Class 1 is predicted within `width` of the center only.
        log_ratio = np.log(2) - 1.5 * width**2
        cost = jnp.asarray(ratio_cost(np.exp(log_ratio)))
        found = js.bayes_rates(pop, cost, method="quadrature")
        expected = 2 * ndtr(2 * width) - 1
        # The boundary, where two terms near 1 cross, is known to an epsilon over width.
        np.testing.assert_allclose(found.rates[1, 1], expected, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["group_aware", "group_blind"])
def test_more_classes_and_groups_equal_counting_and_simulation(rule, eps):
    rng = np.random.default_rng(2)
    pop = random_univariate(rng, 3, 2)
    cost = rng.uniform(0.2, 2.0, (3, 3)) * (1 - np.eye(3))
    decide = numpy_rule(pop, cost, rule)
    found = js.bayes_rates(pop, jnp.asarray(cost), rule=rule)
    expected = rates_by_quantiles(pop, decide)
    np.testing.assert_allclose(found.rates, expected, atol=5e-5 + 100 * eps)

    n = 1_000_000
    q, loc, scale = (
        np.asarray(leaf, float).ravel()
        for leaf in (pop.priors, pop.conditionals.loc, pop.conditionals.scale)
    )
    cell = rng.choice(6, n, p=q / q.sum())
    x = loc[cell] + scale[cell] * rng.normal(size=n)
    label, group = cell // 2, cell % 2
    chosen = np.where(group == 0, decide(x, 0), decide(x, 1))
    wrong, paid = np.mean(chosen != label), cost[chosen, label]
    assert abs(wrong - found.error) < 4 * np.sqrt(wrong * (1 - wrong) / n)
    assert abs(paid.mean() - found.risk) < 4 * paid.std() / np.sqrt(n)
    for a in (0, 1):
        share = np.bincount(chosen[group == a], minlength=3) / np.sum(group == a)
        spread = np.sqrt(share * (1 - share) / np.sum(group == a))
        assert (np.abs(share - found.selection[:, a]) < 4 * spread + 1e-6).all()


def test_the_rule_of_another_population(eps):
    rng = np.random.default_rng(3)
    pop, other = random_univariate(rng, 2, 2), random_univariate(rng, 2, 2)
    decide = numpy_rule(other, ratio_cost(0.7), "group_aware")
    expected = rates_by_quantiles(pop, decide)
    for method in ("exact", "quadrature"):
        cost = jnp.asarray(ratio_cost(0.7))
        found = js.bayes_rates(pop, cost, rule=other, method=method)
        np.testing.assert_allclose(found.rates, expected, atol=5e-5 + 100 * eps)


def _steps(x, a):
    return (jnp.abs(x - a) < 1.5).astype(jnp.int32)


def test_a_given_rule(eps):
    pop = random_univariate(np.random.default_rng(4), 2, 2)
    found = js.bayes_rates(pop, rule=_steps)
    loc, scale = (np.asarray(leaf, float) for leaf in jax.tree.leaves(pop.conditionals))
    middle = np.arange(2)
    inside = ndtr((middle + 1.5 - loc) / scale) - ndtr((middle - 1.5 - loc) / scale)
    np.testing.assert_allclose(found.rates[1], inside, atol=max(1e-9, 100 * eps))


def test_a_shared_bijection_changes_rows_but_no_rate(eps):
    pop = random_univariate(np.random.default_rng(5), 2, 2)
    logs = js.LogNormal(pop.conditionals.loc, pop.conditionals.scale)
    same = js.Population(pop.priors, logs)
    close = partial(np.testing.assert_allclose, atol=10 * eps)
    close(js.bayes_rates(same).rates, js.bayes_rates(pop).rates)
    low = js.bayes_rates(same, rule=lambda x, a: (x < 2.0).astype(int))
    loc, scale = pop.conditionals.loc, pop.conditionals.scale
    close(low.rates[1], ndtr((np.log(2) - loc) / scale), atol=1e3 * eps)


def test_families_known_by_their_density_alone(x64):
    priors = jnp.full((2, 2), 0.25)
    loc, scale = jnp.array([[0.0, 1.0], [2.0, 1.5]]), jnp.array([[1.0, 0.3]] * 2)
    found = js.bayes_rates(js.Population(priors, Logistic(loc, scale)))
    above = expit((loc - (loc[0] + loc[1]) / 2) / scale)
    assert jnp.max(jnp.abs(found.rates[1] - above)) < 1e-9

    rate = jnp.array([[2.0, 1.0], [0.5, 3.0]])
    found = js.bayes_rates(js.Population(priors, Waiting(rate)))
    cut = jnp.log(rate[0] / rate[1]) / (rate[0] - rate[1])
    late = jnp.exp(-rate * cut)
    expected = jnp.where(rate[1] < rate[0], late, 1 - late)
    assert jnp.max(jnp.abs(found.rates[1] - expected)) < 1e-9


CONTINUOUS = {
    "laplace": (js.families.Laplace, "loc scale", lambda m, s: stats.laplace(m, s)),
    "gumbel": (js.families.Gumbel, "loc scale", lambda m, s: stats.gumbel_r(m, s)),
    "exponential": (js.families.Exponential, "rate", lambda r: stats.expon(0, 1 / r)),
    "gamma": (js.families.Gamma, "shape rate", lambda a, r: stats.gamma(a, 0, 1 / r)),
    "weibull": (
        js.families.Weibull,
        "shape scale",
        lambda a, s: stats.weibull_min(a, 0, s),
    ),
    "rayleigh": (js.families.Rayleigh, "scale", lambda s: stats.rayleigh(0, s)),
    "beta": (js.families.Beta, "shape shape", stats.beta),
    "pareto": (js.families.Pareto, "tail scale", lambda a, s: stats.pareto(a, 0, s)),
    "inverse gamma": (
        js.families.InverseGamma,
        "tail scale",
        lambda a, s: stats.invgamma(a, 0, s),
    ),
    "inverse Gaussian": (
        js.families.InverseGaussian,
        "scale scale",
        lambda m, c: stats.invgauss(m / c, 0, c),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTINUOUS)
def test_other_families_equal_counting(name, eps):
    family, parameters, reference = CONTINUOUS[name]
    rng = np.random.default_rng(13)
    # Shapes below 1, where densities of Gamma, Weibull and Beta are unbounded, too.
    draws = {
        "loc": rng.normal(size=(2, 2)),
        "shape": rng.uniform(0.4, 1.6, (2, 2)),
        "tail": rng.uniform(2.5, 4.0, (2, 2)),
    }
    values = [
        draws[p] if p in draws else np.exp(rng.normal(size=(2, 2)) / 2)
        for p in parameters.split()
    ]
    if name == "beta":
        values[1] = values[1][::-1]
    priors = np.array([[0.3, 0.2], [0.2, 0.3]])
    pop = js.Population(jnp.asarray(priors), family(*map(jnp.asarray, values)))
    found = js.bayes_rates(pop)
    unit = (np.arange(100_001) + 0.5) / 100_001
    for a in range(2):
        laws = [reference(*(v[i, a] for v in values)) for i in range(2)]
        for i in range(2):
            x = laws[i].ppf(unit)
            weigh = [laws[j].logpdf(x) + np.log(priors[j, a]) for j in range(2)]
            expected = np.mean(weigh[1] > weigh[0])
            np.testing.assert_allclose(
                found.rates[1, i, a], expected, atol=5e-5 + 300 * eps
            )


def _tied(rng, d, diagonal):
    root = np.eye(d) * rng.uniform(0.5, 2, d) if diagonal else rng.normal(size=(d, d))
    cov = root @ root.T + 0.3 * np.eye(d)
    mean, priors = rng.normal(size=(2, 2, d)), rng.dirichlet(np.full(4, 3.0))
    cov = jnp.asarray(np.broadcast_to(cov, (2, 2, d, d)))
    cells = js.MultivariateNormal(jnp.asarray(mean), cov)
    if diagonal:
        cells = js.DiagonalNormal.from_moments(cells.mean, cells.cov)
    return js.Population(jnp.asarray(priors.reshape(2, 2)), cells)


@pytest.mark.parametrize("diagonal", [False, True])
def test_quasi_monte_carlo_equals_the_linear_discriminant(diagonal):
    for seed in range(3):
        pop = _tied(np.random.default_rng([6, seed]), 3, diagonal)
        q, mean, cov = (
            np.asarray(leaf, float)
            for leaf in (pop.priors, pop.conditionals.mean, pop.conditionals.cov)
        )
        found = js.bayes_rates(pop, key=jax.random.key(seed))
        difference = mean[1] - mean[0]
        length = np.sqrt(
            np.einsum(
                "ad,ad->a", difference, np.linalg.solve(cov[0, 0], difference.T).T
            )
        )
        side = np.array([[-1.0], [1.0]]) * length**2 / 2
        expected = ndtr((np.log(q[1] / q[0]) + side) / length)
        off = np.abs(found.rates[1] - expected)
        assert (off <= 4 * found.standard_error[1] + 1e-5).all()
        assert float(found.standard_error.max()) < 1.5e-3


def test_quasi_monte_carlo_options_and_rules():
    pop = random_multivariate(np.random.default_rng(7), 2, 2, 3, tied=False)
    first = js.bayes_rates(pop)
    other = js.bayes_rates(pop, key=jax.random.key(1))
    finer = js.bayes_rates(pop, n_points=2**17)
    spread = first.standard_error + other.standard_error
    assert (first.rates != other.rates).any()
    assert (jnp.abs(first.rates - other.rates) <= 5 * spread + 1e-6).all()
    assert finer.standard_error.mean() < first.standard_error.mean() / 2

    own = js.bayes_rates(pop, rule=pop)
    np.testing.assert_allclose(own.rates, first.rates)
    x, label, group = pop.sample(jax.random.key(2), 200_000)
    for rule in ("group_blind", lambda x, a: (x[:, 0] > x[:, 1] + a).astype(int)):
        found = js.bayes_rates(pop, rule=rule)
        if callable(rule):
            chosen = jnp.where(group == 0, rule(x, 0), rule(x, 1))
        else:
            chosen = _blind(pop, x)
        wrong = float(jnp.mean(chosen != label))
        spread = np.sqrt(wrong * (1 - wrong) / len(x)) + 2e-4
        assert abs(wrong - float(found.error)) < 4 * spread


def _blind(pop, x):
    x, total = np.asarray(x, float), []
    for i in range(2):
        density = 0
        for a in range(2):
            mean, cov = (
                np.asarray(leaf[i, a], float)
                for leaf in (pop.conditionals.mean, pop.conditionals.cov)
            )
            z = np.linalg.solve(np.linalg.cholesky(cov), (x - mean).T)
            weight = float(pop.priors[i, a]) / np.sqrt(np.linalg.det(cov))
            density = density + weight * np.exp(-0.5 * np.sum(z * z, 0))
        total.append(density)
    return np.argmax(total, 0)


def test_one_feature_is_univariate(eps):
    pop = random_univariate(np.random.default_rng(8), 2, 2)
    loc, scale = pop.conditionals.loc, pop.conditionals.scale
    dense = js.MultivariateNormal(loc[..., None], (scale**2)[..., None, None])
    same = js.Population(pop.priors, dense)
    np.testing.assert_allclose(
        js.bayes_rates(same, method="exact").rates,
        js.bayes_rates(pop).rates,
        atol=50 * eps,
    )
    seen = []
    js.bayes_rates(
        same, rule=lambda x, a: seen.append(x.shape[1:]) or _steps(x[:, 0], a)
    )
    assert set(seen) == {(1,)}


@pytest.mark.parametrize("intervention", ["affirmative", "all_groups"])
def test_outcomes_on_ideal_targets_are_equal(intervention):
    rng = np.random.default_rng(9)
    solve = jax.jit(
        lambda pop: js.nearest_ideal(pop, intervention=intervention, reference=1).target
    )
    for _ in range(5):
        pop = random_univariate(rng, 2, 3)
        source = _over_costs(pop, MATRICES, "exact")
        target = _over_costs(solve(pop), MATRICES, "exact")
        assert float(source.rate_gaps.max()) > 0.05
        assert float(target.rate_gaps.max()) < 1e-4
        assert float(target.selection_gap.max()) < 1e-4


def test_vmap_equals_one_by_one(eps):
    rng = np.random.default_rng(10)
    pops = [random_univariate(rng, 2, 2) for _ in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pops)
    quadrature = partial(js.bayes_rates, method="quadrature")
    rates = jax.vmap(lambda pop: quadrature(pop).rates)(stacked)
    for pop, row in zip(pops, rates, strict=True):
        np.testing.assert_allclose(row, js.bayes_rates(pop).rates, atol=100 * eps)


def test_the_error_is_differentiable_everywhere(x64):
    def error(loc, scale):
        return js.bayes_rates(_population(loc, scale)).error

    for loc, scale in [HARD[case] for case in HARD if case != "equal classes"]:
        loc, scale = jnp.asarray(loc, float), jnp.asarray(scale, float)
        slopes = jax.grad(error, (0, 1))(loc, scale)
        for which, slope in enumerate(slopes):
            assert jnp.isfinite(slope).all()
            step = jnp.zeros((2, 2)).at[1, 0].set(1e-7)
            ends = [
                error(
                    *[v + s * step * (j == which) for j, v in enumerate((loc, scale))]
                )
                for s in (1, -1)
            ]
            finite = (ends[0] - ends[1]) / 2e-7
            # Along a change of no effect on the boundary: the envelope theorem.
            np.testing.assert_allclose(slope[1, 0], finite, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "qmc"}, "does not fit Normal"),
        ({"method": "exact", "rule": "group_blind"}, "does not fit Normal"),
        ({"method": "exact", "rule": _steps}, "fitting: .'quadrature'."),
        ({"method": "sobol"}, "method='sobol' is not known"),
        ({"rule": "both"}, "rule='both' is not known"),
        ({"cost": jnp.ones((3, 3))}, "cost must have shape .2, 2."),
        ({"n_points": 10}, "n_points=10 must be an integer"),
        ({"n_points": 1e4}, "n_points=10000.0 must be an integer"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    pop = random_univariate(np.random.default_rng(11), 2, 2)
    with pytest.raises(ValueError, match=message):
        js.bayes_rates(pop, **options)


def test_populations_that_do_not_fit_are_refused():
    pop = random_univariate(np.random.default_rng(12), 2, 2)
    with pytest.raises(ValueError, match=r"pop must be a jaxsteer\.Population"):
        js.bayes_rates(pop.conditionals)
    with pytest.raises(ValueError, match=r"priors must have shape \[K, G\]"):
        js.bayes_rates(jax.tree.map(lambda leaf: leaf[None], pop))
    other = random_univariate(np.random.default_rng(12), 3, 2)
    with pytest.raises(ValueError, match=r"rule has \[3, 2\] classes and groups"):
        js.bayes_rates(pop, rule=other)
