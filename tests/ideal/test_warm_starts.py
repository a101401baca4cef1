"""A search that starts at the answer to a nearby problem."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js

D = 3


def population(shift=0.0, seed=0):
    """Two classes by three groups with nothing in common, a little shifted."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(2, 3, D, 2 * D)) / np.sqrt(2 * D)
    mean = rng.normal(size=(2, 3, D))
    other = np.random.default_rng(99).normal(size=mean.shape)
    cov = root @ np.swapaxes(root, -1, -2)
    cells = js.MultivariateNormal(
        jnp.asarray(mean + shift * other, float), jnp.asarray(cov, float)
    )
    return js.Population(jnp.asarray([[0.2, 0.1, 0.15], [0.2, 0.25, 0.1]]), cells)


KINDS = [
    ("affirmative", "general"),
    ("affirmative", "positive_definite"),
    ("affirmative", "pivot"),
    ("all_groups", "general"),
    ("all_groups", "positive_definite"),
]


@pytest.mark.parametrize(("intervention", "maps"), KINDS)
def test_a_warm_start_takes_fewer_steps_to_the_same_answer(intervention, maps):
    how = {"intervention": intervention, "maps": maps, "reference": 1}
    near = js.nearest_ideal(population(0.01), **how)
    cold = js.nearest_ideal(population(), **how)
    warm = js.nearest_ideal(population(), **how, start=near)
    assert bool(warm.require().converged)
    np.testing.assert_allclose(warm.kl, cold.kl, rtol=2e-5)
    assert int(warm.steps) < int(cold.steps)
    again = js.nearest_ideal(population(), **how, start=warm)
    assert int(again.steps) <= int(warm.steps)


@pytest.mark.parametrize("maps", ["pivot", "shared_covariance", "diagonal"])
def test_programs_that_take_no_start_answer_the_same(maps):
    how = {"intervention": "all_groups", "maps": maps}
    cold = js.nearest_ideal(population(), **how)
    np.testing.assert_array_equal(
        js.nearest_ideal(population(), **how, start=cold).kl, cold.kl
    )


def test_another_reference_of_the_start_does_not_matter():
    cold = js.nearest_ideal(population(), reference=0)
    other = js.nearest_ideal(population(), reference=2, start=cold)
    assert bool(other.require().converged)
    alone = js.nearest_ideal(population(), reference=2)
    np.testing.assert_allclose(other.kl, alone.kl, rtol=0.2)
    assert int(other.reference) == 2


@pytest.mark.parametrize("maps", ["general", "positive_definite"])
def test_a_start_that_is_not_finite_is_not_followed(maps):
    cold = js.nearest_ideal(population(), maps=maps)
    broken = dataclasses.replace(
        cold, group_maps=jax.tree.map(lambda leaf: leaf * jnp.nan, cold.group_maps)
    )
    found = js.nearest_ideal(population(), maps=maps, start=broken)
    assert bool(found.require().converged)
    assert float(found.kl) >= float(cold.kl) * (1 - 1e-5)


def test_a_start_that_reflects_is_followed_only_where_it_may():
    cold = js.nearest_ideal(population())
    mirror = jnp.eye(D).at[0, 0].set(-1)
    weight = cold.group_maps.weight.at[1].set(mirror @ cold.group_maps.weight[1])
    turned = dataclasses.replace(
        cold, group_maps=dataclasses.replace(cold.group_maps, weight=weight)
    )
    found = js.nearest_ideal(population(), start=turned)
    assert (jnp.linalg.det(found.group_maps.weight) > 0).all()
    allowed = js.nearest_ideal(population(), start=turned, allow_reflection=True)
    assert jnp.linalg.det(allowed.group_maps.weight).min() < 0


def test_a_training_loop_carries_the_steering():
    """Descend the gap in a scan; its gradient is that of a cold solve."""
    pop = population()

    def gap(mean, start):
        moved = js.Population(
            pop.priors, dataclasses.replace(pop.conditionals, mean=mean)
        )
        return js.ideality_gap(moved, start=start, return_steering=True)

    def step(carry, _):
        mean, steering = carry
        (value, steering), slope = jax.value_and_grad(gap, has_aux=True)(mean, steering)
        return (mean - 0.05 * slope, steering), (value, steering.steps)

    first = js.nearest_ideal(pop)
    mean = pop.conditionals.mean
    (mean, last), (values, steps) = jax.jit(
        lambda carry: jax.lax.scan(step, carry, length=8)
    )((mean, first))
    assert (np.diff(values) < 0).all()
    assert int(steps[1:].max()) < int(first.steps)
    assert bool(last.require().converged)
    slope = jax.grad(lambda m: gap(m, last)[0])(mean)
    cold = jax.grad(
        lambda m: js.ideality_gap(
            js.Population(pop.priors, dataclasses.replace(pop.conditionals, mean=m))
        )
    )(mean)
    np.testing.assert_allclose(slope, cold, atol=2e-3 * np.abs(cold).max())


def test_messages():
    pop = population()
    found = js.nearest_ideal(pop)
    scalar = js.Population(
        jnp.full((2, 2), 0.25), js.Normal(jnp.eye(2), jnp.ones((2, 2)))
    )
    with pytest.raises(ValueError, match=r"start= serves searches over matrices"):
        js.nearest_ideal(scalar, start=found)
    fewer = js.Population(
        jnp.full((2, 2), 0.25), jax.tree.map(lambda v: v[:, :2], pop.conditionals)
    )
    with pytest.raises(ValueError, match=r"start has maps of \(3, 3, 3\), expected"):
        js.nearest_ideal(fewer, start=found)
    with pytest.raises(ValueError, match=r"start has maps of another kind"):
        js.nearest_ideal(pop, start=js.nearest_ideal(scalar))


@pytest.mark.parametrize("maps", ["general", "positive_definite"])
def test_a_start_that_is_nearly_singular_is_left(maps, eps):
    """It is where it is singular to rounding; elsewhere it only is another start."""
    cold = js.nearest_ideal(population(), maps=maps)

    def started_at(matrix):
        weight = cold.group_maps.weight.at[1].set(matrix)
        moved = dataclasses.replace(cold.group_maps, weight=weight)
        start = dataclasses.replace(cold, group_maps=moved)
        found = js.nearest_ideal(population(), maps=maps, start=start)
        return float(found.require().kl)

    left = started_at(jnp.eye(D))
    for power in (0, 3, 6, 9, 14, 30):
        thin = jnp.eye(D).at[0, 0].set(10.0**-power)
        found = started_at(thin @ cold.group_maps.weight[1])
        if maps == "positive_definite" or power == 0:  # one answer, its own answer
            assert found == pytest.approx(float(cold.kl), rel=1e-4), power
        elif 10.0**power > eps**-0.75:
            assert found == pytest.approx(left, rel=1e-4), power
