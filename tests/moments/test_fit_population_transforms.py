from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moment_rows import close, some_rows

from jaxsteer.moments import fit_population

X, LABEL, GROUP = some_rows(48, 2, seed=3)
WEIGHTS = np.random.default_rng(4).uniform(0.5, 2, 48)
CODES = {"n_classes": 2, "n_groups": 2}
fit = partial(fit_population, **CODES)


@pytest.mark.parametrize("family", ["normal", "diagonal_normal", "lognormal"])
@pytest.mark.parametrize("shrinkage", ["oas", None])
def test_jit_equals_eager(family, shrinkage):
    x = np.exp(X) if family == "lognormal" else X
    both = partial(fit, family=family, shrinkage=shrinkage)
    eager, jitted = (f(x, LABEL, GROUP, weights=WEIGHTS) for f in (both, jax.jit(both)))
    assert jax.tree.structure(eager) == jax.tree.structure(jitted)
    for one, other in zip(jax.tree.leaves(eager), jax.tree.leaves(jitted), strict=True):
        close(one, other)


def test_traced_codes_out_of_range_are_nan_not_another_cell():
    for label, group in ((-1, 1), (0, 2), (2, 0)):
        bad = jnp.asarray(LABEL).at[0].set(label), jnp.asarray(GROUP).at[0].set(group)
        pop = jax.jit(fit)(X, *bad)
        assert np.isnan(pop.conditionals.mean).all()


def test_vmap_over_data_sets():
    xs = np.stack([X, X[::-1] * 2, X + 1])
    law = jax.jit(jax.vmap(lambda x: fit(x, LABEL, GROUP)))(xs).conditionals
    for k in range(3):
        alone = fit(xs[k], LABEL, GROUP).conditionals
        close(law.mean[k], alone.mean)
        close(law.cov[k], alone.cov)


@pytest.mark.parametrize("shrinkage", ["oas", "ledoit-wolf", 0.3])
def test_slopes_equal_finite_differences(x64, shrinkage):
    pick = np.random.default_rng(5).normal(size=(2, 2, 2, 2))

    @jax.jit
    def value(x, w):
        pop = fit(x, LABEL, GROUP, shrinkage=shrinkage, weights=w)
        rest = jnp.sum(pop.conditionals.mean) + jnp.sum(pick[0, 0] * pop.priors)
        return jnp.sum(pick * pop.conditionals.cov) + rest

    slopes = jax.jit(jax.grad(value, (0, 1)))(X, WEIGHTS)
    rng = np.random.default_rng(6)
    for _ in range(5):  # along random directions
        dx, dw = rng.normal(size=X.shape), rng.normal(size=WEIGHTS.shape)
        up, down = (value(X + s * dx, WEIGHTS + s * dw) for s in (1e-5, -1e-5))
        found = np.sum(slopes[0] * dx) + np.sum(slopes[1] * dw)
        np.testing.assert_allclose(found, (up - down) / 2e-5, rtol=1e-6, atol=1e-7)


def test_new_values_are_not_traced_again():
    traces = []

    @jax.jit
    def counted(x, label, group):
        traces.append(x.shape)
        return fit(x, label, group)

    counted(X, LABEL, GROUP)
    counted(X + 1, LABEL, 1 - GROUP)
    assert traces == [X.shape]
