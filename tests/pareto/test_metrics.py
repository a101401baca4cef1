"""Metrics: hard ones are the audit's, sums over pairs are the pairs', smooth is smooth."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer import pareto
from jaxsteer.pareto import Outputs

from .problems import NAMES, SEVEN, draw

smooth = jax.jit(lambda metric, out, data: metric.smooth(out, data))
hard = jax.jit(lambda metric, out, data: metric.hard(out, data))


def _outputs(score, losses=None):
    score = jnp.asarray(score)
    return Outputs(score, jnp.zeros(len(score)) if losses is None else losses, None)


def _rows(seed=0, kind="binary", weighted=False, sizes=(50, 30, 45)):
    """Data whose x is the score, and the plain arrays in the order of the rows."""
    _, y, group = draw(seed, sizes=sizes, kind=kind)
    rng = np.random.default_rng(seed)
    k = 3 if kind == "classes" else 1
    score = rng.normal(size=(len(y), k)) + 0.5 * group[:, None]
    weights = rng.random(len(y)) + 0.2 if weighted else None
    data = pareto.group_data(score, y, group, weights=weights)
    columns = data.x if k > 1 else data.x[:, 0]
    return data, columns, (score, y, group, weights)


@pytest.mark.parametrize("kind", ["binary", "classes"])
@pytest.mark.parametrize("weighted", [False, True])
def test_hard_rates_are_the_audits(kind, weighted, eps):
    data, score, (raw, y, group, weights) = _rows(1, kind, weighted)
    decided = raw.argmax(1) if kind == "classes" else (raw[:, 0] > 0).astype(int)
    pairs = [
        (pareto.DemographicParity(), js.metrics.demographic_parity),
        (pareto.EqualOpportunity(), js.metrics.equal_opportunity),
        (pareto.EqualizedOdds(), js.metrics.equalized_odds),
    ]
    for ours, audit in pairs:
        expected = audit(y, decided, group, weights=weights)
        found = hard(ours, _outputs(score), data)
        np.testing.assert_allclose(found, expected, atol=20 * eps)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["binary", "classes", "regression"])
def test_individual_fairness_is_the_sum_over_pairs(kind, weighted):
    data, score, (raw, y, group, weights) = _rows(2, kind, weighted)
    w = np.ones(len(y)) if weights is None else weights
    apart = np.abs(y[:, None] - y[None])
    apart = apart if kind == "regression" else (apart > 0).astype(float)
    pair = np.outer(w, w) * (group[:, None] != group[None])

    def mean(s):
        square = ((s[:, None] - s[None]) ** 2).sum(-1)
        return (pair * np.exp(-apart) * square).sum() / pair.sum()

    metric = pareto.IndividualFairness()
    np.testing.assert_allclose(
        smooth(metric, _outputs(score), data), mean(raw), rtol=1e-4
    )
    if kind != "regression":
        decided = np.eye(3)[raw.argmax(1)] / 2**0.5 if kind == "classes" else raw > 0
        np.testing.assert_allclose(
            hard(metric, _outputs(score), data), mean(decided.astype(float)), rtol=1e-4
        )


def test_individual_fairness_of_one_target_is_a_mean_square():
    # All targets equal and a constant difference of 2 between the groups' scores.
    group = np.array([0, 0, 1, 1, 1])
    data = pareto.group_data(np.ones((5, 1)), np.ones(5), group)
    found = smooth(pareto.IndividualFairness(), _outputs(2.0 * data.group), data)
    np.testing.assert_allclose(found, 4.0, rtol=1e-5)


def test_hsic_is_the_one_of_kernel_matrices():
    data, score, (raw, _, group, _) = _rows(3)
    s = 1 / (1 + np.exp(-raw[:, 0]))
    n = len(s)
    center = np.eye(n) - 1 / n
    same = group[:, None] == group[None]
    for kernel in ("rbf", "linear"):
        gram = np.outer(s, s)
        if kernel == "rbf":
            gram = np.exp(-((s[:, None] - s[None]) ** 2) / (2 * 0.5**2))
        expected = np.trace(gram @ center @ same @ center) / n**2
        found = smooth(pareto.HSIC(kernel=kernel), _outputs(score), data)
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_disparate_mistreatment_is_a_covariance():
    data, score, (raw, y, group, _) = _rows(4, sizes=(50, 30))
    margin = np.where(y > 0, raw[:, 0], -raw[:, 0])
    soft = -np.logaddexp(0, -margin)
    pairs = [("errors", soft), ("score", raw[:, 0])]
    for of, values in pairs:
        expected = np.cov(group, values, bias=True)[0, 1] ** 2
        found = smooth(pareto.DisparateMistreatment(of=of), _outputs(score), data)
        np.testing.assert_allclose(found, expected, rtol=1e-3)
    # A temperature of 0 is min(0, margin).
    cold = pareto.DisparateMistreatment(temperature=1e-3)
    expected = np.cov(group, np.minimum(margin, 0), bias=True)[0, 1] ** 2
    np.testing.assert_allclose(smooth(cold, _outputs(score), data), expected, rtol=1e-3)


def test_group_loss_variance(eps):
    data, score, _ = _rows(5)
    losses = np.random.default_rng(0).random(len(data.target))
    found = smooth(pareto.GroupLossVariance(), _outputs(score, losses), data)
    means = data.group_mean(jnp.asarray(losses))
    np.testing.assert_allclose(found, np.var(means), atol=10 * eps)


def test_regression_versions():
    data, score, (raw, y, group, _) = _rows(6, "regression")
    s = raw[:, 0]
    means = [s[group == a].mean() for a in range(3)]
    above = [s[(group == a) & (y > 0.2)].mean() for a in range(3)]
    below = [s[(group == a) & (y <= 0.2)].mean() for a in range(3)]
    squares = [((s - y)[group == a] ** 2).mean() for a in range(3)]
    expected = [
        (pareto.DemographicParity(), np.ptp(means)),
        (pareto.EqualOpportunity(threshold=0.2), np.ptp(above)),
        (pareto.EqualizedOdds(threshold=0.2), max(np.ptp(above), np.ptp(below))),
        (pareto.DisparateMistreatment(), np.ptp(squares)),
        (pareto.GroupLossVariance(), np.ptp(squares)),
    ]
    for metric, value in expected:
        np.testing.assert_allclose(
            hard(metric, _outputs(score), data), value, rtol=1e-4
        )


@pytest.mark.parametrize(
    "kind",
    [
        "binary",
        pytest.param("classes", marks=pytest.mark.slow),
        pytest.param("regression", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("metric", SEVEN, ids=NAMES)
def test_a_score_without_the_group_is_fair(metric, kind, eps):
    # Both groups are the same rows.
    _, y, _ = draw(1, sizes=(40,), kind=kind)
    score = np.random.default_rng(0).normal(size=(40, 3))

    def twice(v):
        return np.concatenate([v, v])

    group = np.repeat([0, 1], 40)
    data = pareto.group_data(twice(score), twice(y), group)
    out = _outputs(data.x if kind == "classes" else data.x[:, 0], data.x[:, 1])
    if not isinstance(metric, pareto.IndividualFairness):
        assert abs(float(smooth(metric, out, data))) < 50 * eps
        assert abs(float(hard(metric, out, data))) < 50 * eps
    constant = _outputs(0 * out.score + 1, 0 * out.losses)
    assert abs(float(smooth(metric, constant, data))) < 50 * eps


def test_smooth_gap_is_between_variance_and_range(eps):
    rates = jnp.array([0.2, 0.5, 0.35])
    gap = jax.jit(pareto.smooth_gap)
    gaps = [float(gap(rates, t)) for t in (1e-3, 0.03, 0.1, 10.0)]
    assert gaps == sorted(gaps, reverse=True)
    assert abs(gaps[0] - 0.3) < 3e-3
    assert gaps[-1] == pytest.approx(float(jnp.var(rates)) / 10, rel=1e-3)
    # Tiny differences keep their digits, and no difference has slope 0.
    tiny = jnp.array([0.5, 0.5 + 64 * eps])
    assert float(pareto.smooth_gap(tiny)) == pytest.approx(
        (64 * eps) ** 2 / 0.4, rel=1e-3
    )
    step = jax.jit(jax.grad(pareto.smooth_gap))
    assert not step(jnp.full(3, 0.4)).any()
    both = [step(jnp.array([0.0, s]))[1] for s in (0.1999, 0.2001)]
    assert float(both[1] - both[0]) == pytest.approx(0, abs=2e-3)


def test_temperature_leads_from_soft_to_hard():
    data, score, _ = _rows(7)
    metric = pareto.DemographicParity(temperature=1e-4, smoothing=1e-4)
    out = _outputs(score)
    assert float(smooth(metric, out, data)) == pytest.approx(
        float(hard(metric, out, data)), abs=1e-3
    )


def test_own_metrics_and_sums():
    data, score, _ = _rows(8)
    out = _outputs(score)

    def own(outputs, data):
        return jnp.var(data.group_mean(outputs.score))

    metric = pareto.CustomMetric(fn=own)
    value = float(own(out, data))
    assert float(smooth(metric, out, data)) == pytest.approx(value, rel=1e-5)
    assert float(hard(metric, out, data)) == pytest.approx(value, rel=1e-5)
    half = pareto.CustomMetric(fn=own, hard_fn=lambda o, d: own(o, d) / 2)
    assert float(hard(half, out, data)) == pytest.approx(value / 2, rel=1e-5)
    both = pareto.MetricSum(
        metrics=(metric, SEVEN[0]), coefficients=np.array([2.0, 3.0])
    )
    expected = 2 * own(out, data) + 3 * smooth(SEVEN[0], out, data)
    np.testing.assert_allclose(smooth(both, out, data), expected, rtol=1e-5)


def test_undefined_metrics_are_refused():
    x, y, group = draw(9)
    data = pareto.group_data(x, np.where(group == 1, 0, y), group)
    with pytest.raises(ValueError, match="group 1 has no rows with target 1"):
        pareto.EqualOpportunity().check(data)
    with pytest.raises(ValueError, match="group 1 has no rows with target 1"):
        pareto.EqualizedOdds().check(data)
    with pytest.raises(ValueError, match="positive=2 is no class"):
        pareto.EqualOpportunity(positive=2).check(data)
    with pytest.raises(ValueError, match="kernel='cubic' is not known"):
        pareto.HSIC(kernel="cubic").check(data)
    with pytest.raises(ValueError, match="of='rows' is not known"):
        pareto.DisparateMistreatment(of="rows").check(data)
