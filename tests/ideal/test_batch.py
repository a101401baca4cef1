"""Many problems at once: every row as it is alone."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import jaxsteer as js
from tests.ideal.problems import random_multivariate, random_univariate
from tests.programs import on_devices

RNG = np.random.default_rng(0)
POPS = [random_multivariate(RNG, 2, 2, 3, tied=False) for _ in range(11)]
STACKED = jax.tree.map(lambda *leaves: jnp.stack(leaves), *POPS)


def row(batch, index):
    return jax.tree.map(lambda leaf: leaf[index], batch)


def identical(first, second):
    return all(
        jnp.array_equal(a, b, equal_nan=True)
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )


def with_mean(row, value):
    cells = STACKED.conditionals
    mean = cells.mean.at[row, 0, 0, 0].set(value)
    return js.Population(STACKED.priors, js.MultivariateNormal(mean, cells.cov))


@pytest.fixture(scope="module")
def solved():
    return js.nearest_ideal_batch(
        STACKED, maps="positive_definite", batch_size=4, reference=1
    )


def test_rows_equal_single_solves(solved, eps):
    assert solved.kl.shape == solved.status.shape == solved.steps.shape == (11,)
    for index in (0, 10):
        alone = js.nearest_ideal(POPS[index], maps="positive_definite", reference=1)
        assert jnp.allclose(solved.kl[index], alone.kl, rtol=1e3 * eps)
        assert jnp.allclose(
            solved.group_maps.weight[index], alone.group_maps.weight, atol=1e4 * eps
        )
    assert identical(row(solved.source, 3), POPS[3])
    solved.require()


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, 1e30])
def test_a_hopeless_row_changes_no_other_to_the_bit(solved, value):
    spoiled = js.nearest_ideal_batch(
        with_mean(5, value), maps="positive_definite", batch_size=4, reference=1
    )
    assert spoiled.status[5] != js.Status.CONVERGED
    for index in [0, 4, 6, 7, 10]:
        assert identical(row(spoiled, index), row(solved, index))
    with pytest.raises(js.SolveError, match=r"1 of 11 problems failed \(row 5: "):
        spoiled.require()


def test_a_row_is_the_same_to_the_bit_in_any_company(solved):
    few = jax.tree.map(lambda leaf: leaf[:2], STACKED)
    alone = js.nearest_ideal_batch(
        few, maps="positive_definite", batch_size=4, reference=1
    )
    assert identical(row(alone, 1), row(solved, 1))


def test_singular_covariances_and_empty_cells_say_so():
    cells = STACKED.conditionals
    flat = cells.cov.at[2, 0, 0].set(jnp.ones((3, 3), cells.cov.dtype))
    priors = STACKED.priors.at[7, 0, 0].set(0.0)
    pops = js.Population(priors, js.MultivariateNormal(cells.mean, flat))
    found = js.nearest_ideal_batch(
        pops, maps="positive_definite", batch_size=4, reference=1
    )
    assert found.status[2] in (js.Status.NONFINITE, js.Status.BAD_INPUT)
    assert found.status[7] == js.Status.BAD_INPUT
    assert int((found.status != js.Status.CONVERGED).sum()) == 2


def test_a_sequence_is_stacked(solved):
    listed = js.nearest_ideal_batch(
        POPS, maps="positive_definite", batch_size=4, reference=1
    )
    assert identical(listed, solved)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_mesh_of_either_kind_takes_arrays_that_are_not_on_it(kind):
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(kind,))
    found = js.nearest_ideal_batch(STACKED, maps="shared_covariance", mesh=mesh)
    alone = js.nearest_ideal(POPS[10], maps="shared_covariance")
    assert found.kl.shape == (11,)
    np.testing.assert_allclose(np.asarray(found.kl)[10], alone.kl, rtol=1e-4)


SPREAD = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import jaxsteer as js

loc = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2, 2)), jnp.float32)
pops = js.Population(jnp.full((8, 2, 2), 0.25), js.Normal(loc, jnp.ones((8, 2, 2))))
here = js.nearest_ideal_batch(pops).kl

for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(kind,))
    along = NamedSharding(mesh, PartitionSpec("batch"))
    solve = jax.jit(lambda pops, mesh=mesh: js.nearest_ideal_batch(pops, mesh=mesh))
    placed = jax.device_put(pops, along)
    found = solve(placed).kl
    assert found.sharding.spec == along.spec, found.sharding
    np.testing.assert_allclose(found, here, rtol=1e-5)
    text = solve.lower(placed).compile().as_text()
    for word in ("all-gather", "all-reduce", "all-to-all", "collective", "reduce-scatter"):
        assert word not in text, word
    # Seven problems on four devices: one is filled up, and cut off again.
    few = jax.tree.map(lambda leaf: leaf[:7], pops)
    np.testing.assert_allclose(
        js.nearest_ideal_batch(few, mesh=mesh).kl, here[:7], rtol=1e-5
    )
print("spread")
"""


def test_devices_solve_their_shares_without_a_collective():
    done = subprocess.run(
        [sys.executable, "-c", SPREAD],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": on_devices(4)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "spread", done.stderr[-2000:]


def test_univariate_cells_need_no_chunks(eps):
    rng = np.random.default_rng(1)
    pops = [random_univariate(rng, 3, 2) for _ in range(5)]
    found = js.nearest_ideal_batch(pops, reference=1)
    for index, pop in enumerate(pops):
        alone = js.nearest_ideal(pop, reference=1)
        assert jnp.allclose(found.kl[index], alone.kl, rtol=1e3 * eps)


@pytest.mark.slow
def test_gradients_pass_through(eps):
    def total(mean):
        pops = js.Population(
            STACKED.priors, js.MultivariateNormal(mean, STACKED.conditionals.cov)
        )
        return js.nearest_ideal_batch(
            pops, maps="shared_covariance", batch_size=4, reference=1
        ).kl.sum()

    def alone(mean):
        cells = js.MultivariateNormal(mean, POPS[9].conditionals.cov)
        return js.nearest_ideal(
            js.Population(POPS[9].priors, cells), maps="shared_covariance", reference=1
        ).kl

    slope = jax.grad(total)(STACKED.conditionals.mean)
    expected = jax.grad(alone)(POPS[9].conditionals.mean)
    assert jnp.allclose(slope[9], expected, atol=1e3 * eps)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="pops is empty"):
        js.nearest_ideal_batch([], reference=1)
    with pytest.raises(ValueError, match="one family and shape"):
        js.nearest_ideal_batch([POPS[0], random_univariate(RNG, 2, 2)], reference=1)
    with pytest.raises(ValueError, match="batch_size=0"):
        js.nearest_ideal_batch(STACKED, batch_size=0, reference=1)
    with pytest.raises(ValueError, match=r"\[N, K, G\]"):
        js.nearest_ideal_batch(POPS[0], reference=1)
    with pytest.raises(ValueError, match=r"\[K, G\]"):
        js.nearest_ideal(STACKED, reference=1)
