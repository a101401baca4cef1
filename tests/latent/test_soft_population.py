from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.latent import fit_rome_em, fit_soft_population, soft_transport

RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 2, 240)
GROUP = RNG.integers(0, 2, 240)
X = (
    RNG.normal(size=(240, 3)) @ RNG.normal(size=(3, 3))
    + LABEL[:, None]
    + GROUP[:, None]
)
SOFT = RNG.dirichlet(np.ones(2), 240)


def close(left, right, tolerance):
    left, right = jax.tree.leaves(left), jax.tree.leaves(right)
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("covariance", ["full", "tied", "diagonal"])
@pytest.mark.parametrize("shrinkage", ["oas", "ledoit-wolf"])
def test_certain_groups_give_fit_population(covariance, shrinkage, eps):
    hard = js.fit_population(
        X, LABEL, GROUP, shrinkage=shrinkage, covariance=covariance
    )
    soft = fit_soft_population(
        X, LABEL, np.eye(2)[GROUP], shrinkage=shrinkage, covariance=covariance
    )
    close(hard, soft, 500 * eps)


def test_soft_groups_are_rows_repeated_with_weights(eps):
    weights = RNG.uniform(0.5, 2, 240)
    stacked = js.fit_population(
        np.concatenate([X, X]),
        np.concatenate([LABEL, LABEL]),
        np.repeat([0, 1], 240),
        weights=np.concatenate([SOFT[:, 0] * weights, SOFT[:, 1] * weights]),
    )
    soft = fit_soft_population(X, LABEL, SOFT, weights=weights)
    close(stacked, soft, 500 * eps)


def test_jit_and_gradient():
    fit = jax.jit(lambda x, t: fit_soft_population(x, LABEL, t, n_classes=2).priors)
    np.testing.assert_allclose(
        fit(X, SOFT), fit_soft_population(X, LABEL, SOFT).priors, rtol=1e-5
    )

    def spread(theta):
        return jnp.sum(fit_soft_population(X, LABEL, theta).conditionals.cov)

    slope = jax.grad(spread)(jnp.asarray(SOFT))
    assert np.isfinite(slope).all() and np.abs(slope).max() > 0


def test_options_that_change_the_result():
    plain = fit_soft_population(X, LABEL, SOFT)
    for options in ({"shrinkage": 0.5}, {"shrinkage": None}, {"covariance": "tied"}):
        other = fit_soft_population(X, LABEL, SOFT, **options)
        assert np.abs(plain.conditionals.cov - other.conditionals.cov).max() > 1e-4
    assert fit_soft_population(X, LABEL, SOFT, n_classes=2).n_classes == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X[:, 0]}, r"shapes \[n, d\] and \[n, G\]"),
        ({"responsibilities": GROUP}, r"shapes \[n, d\] and \[n, G\]"),
        ({"responsibilities": SOFT[:-1]}, "one entry a row"),
        ({"responsibilities": -SOFT}, "responsibilities must be at least 0"),
        ({"x": np.where(X > 1, np.inf, X)}, "x has .* not finite"),
        ({"covariance": "low_rank"}, "covariance='low_rank' is not known"),
        ({"label": LABEL.astype(float)}, "label must hold integer codes"),
        ({"responsibilities": np.eye(3)[GROUP]}, "class 0 in group 2"),
        ({"weights": -np.ones(240)}, "weights must be at least 0"),
    ],
)
def test_unusable_arguments(change, message):
    arguments = {"x": X, "label": LABEL, "responsibilities": SOFT, **change}
    with pytest.raises(ValueError, match=message):
        fit_soft_population(**arguments)


def test_certain_rows_go_where_their_group_goes():
    steering = js.nearest_ideal(
        fit_soft_population(X, LABEL, SOFT), maps="positive_definite", reference=1
    )
    expected = steering.transport(X, GROUP)
    hot = np.eye(2)[GROUP]
    np.testing.assert_allclose(soft_transport(steering, X, hot), expected, atol=1e-4)
    drawn = soft_transport(steering, X, hot, key=jax.random.key(0), sample=True)
    np.testing.assert_allclose(drawn, expected, atol=1e-4)
    images = [np.asarray(steering.transport(X, np.full(240, a))) for a in range(2)]
    mean = SOFT[:, :1] * images[0] + SOFT[:, 1:] * images[1]
    np.testing.assert_allclose(soft_transport(steering, X, SOFT), mean, atol=1e-4)
    drawn = soft_transport(steering, X, SOFT, key=jax.random.key(0), sample=True)
    gaps = [np.abs(np.asarray(drawn) - image).max(1) for image in images]
    assert np.minimum(*gaps).max() < 1e-4  # one image or the other
    took_second = (gaps[1] < gaps[0]).mean()
    assert abs(took_second - SOFT[:, 1].mean()) < 0.1


def test_channels_keep_their_noise():
    channel = js.gaussian_channel(fit_soft_population(X, LABEL, SOFT), reference=1)
    one, two = (
        np.asarray(soft_transport(channel, X, SOFT, key=jax.random.key(k)))
        for k in (0, 1)
    )
    quiet = np.asarray(soft_transport(channel, X, SOFT, deterministic=True))
    assert np.abs(one - two).max() > 1e-3 and one.shape == (240, 1)
    assert quiet.shape == (240, 1)
    with pytest.raises(ValueError, match="key is missing"):
        soft_transport(channel, X, SOFT)
    with pytest.raises(ValueError, match=r"shape \[240, 2\]"):
        soft_transport(channel, X, np.ones((240, 3)))


@pytest.mark.slow
def test_steering_by_latent_groups_helps_a_group_that_nobody_recorded():
    """Two hidden groups whose features are shifted: their means meet after steering."""
    rng = np.random.default_rng(1)
    n = 2000
    proxy = rng.normal(size=n)
    hidden = (proxy + 0.2 * rng.normal(size=n) > 0).astype(int)
    label = rng.integers(0, 2, n)
    x = rng.normal(size=(n, 2)) + label[:, None]
    x[:, 0] += 3.0 * hidden
    # The first column shifts by group: a regression on what the group shifts finds it.
    fit = fit_rome_em(x[:, 0], label[:, None], proxy[:, None], 2, restarts=4)
    found = np.asarray(fit.responsibilities)
    population = fit_soft_population(x, label, found)
    steering = js.nearest_ideal(population, reference=1, maps="positive_definite")
    steered = np.asarray(soft_transport(steering, x, found))

    def gap(rows):
        gaps = [
            rows[(label == c) & (hidden == 0)].mean(0)
            - rows[(label == c) & (hidden == 1)].mean(0)
            for c in range(2)
        ]
        return np.abs(gaps).max()

    assert gap(x) > 2.5
    assert gap(steered) < 0.2 * gap(x)
