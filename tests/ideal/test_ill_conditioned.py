"""Cells whose covariances have condition 1e4 or 1e6 and nothing in common: solved."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js

pytestmark = pytest.mark.slow

K, D, PROBLEMS = 3, 6, 24


def problems(condition=1e4):
    rng = np.random.default_rng(0)
    priors = rng.dirichlet(np.full(2 * K, 2.0), PROBLEMS).reshape(PROBLEMS, K, 2)
    mean = rng.normal(size=(PROBLEMS, K, 2, D))
    turns = np.linalg.qr(rng.normal(size=(PROBLEMS, K, 2, D, D)))[0]
    cov = (turns * np.logspace(0, -np.log10(condition), D)) @ np.swapaxes(turns, -1, -2)
    cells = js.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov))
    return js.Population(jnp.asarray(priors), cells)


def test_every_gauge_converges(x64):
    found = {
        maps: js.nearest_ideal_batch(
            problems(), maps=maps, differentiate="none", reference=1
        )
        for maps in ("positive_definite", "pivot", "general")
    }
    for maps, steering in found.items():
        assert steering.converged.all(), maps
        assert (steering.residual < 1e-7).all(), maps
    least = jnp.minimum(found["positive_definite"].kl, found["pivot"].kl)
    assert (found["general"].kl <= least * (1 + 1e-9)).all()


@pytest.mark.parametrize("maps", ["positive_definite", "pivot"])
def test_definite_maps_follow_the_central_path(maps, x64):
    """At condition 1e6, where steps of a trust region run into their limit of 500."""
    found = js.nearest_ideal_batch(
        problems(1e6), maps=maps, differentiate="none", reference=1
    )
    assert found.converged.all()
    assert np.median(found.steps) < 80
    for row in range(0, PROBLEMS, 4):
        one = jax.tree.map(lambda leaf, row=row: np.asarray(leaf)[row], found)
        assert one.verify().ok


def test_well_conditioned_problems_take_few_steps(x64):
    found = js.nearest_ideal_batch(
        problems(10.0), maps="positive_definite", differentiate="none", reference=1
    )
    assert found.converged.all() and found.steps.max() <= 10


def test_in_float32_what_is_not_solved_says_so(x64):
    narrow = jax.tree.map(lambda leaf: leaf.astype("float32"), problems())
    # The same problem: rounding the covariances alone changes the divergence by more.
    wide = jax.tree.map(lambda leaf: leaf.astype("float64"), narrow)
    exact = js.nearest_ideal_batch(
        wide, maps="positive_definite", differentiate="none", reference=1
    )
    found = js.nearest_ideal_batch(
        narrow, maps="positive_definite", differentiate="none", reference=1
    )
    solved = np.asarray(found.converged)
    assert solved.any() and not solved.all()
    # In float32 the covariances of a target are an orbit to 2e-3 of the divergence only.
    np.testing.assert_allclose(
        found.feature_kl[solved], exact.feature_kl[solved], rtol=3e-3
    )
