"""Newton's steps on definite matrices to a fixed target: as long as is safe."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.solvers import MatrixNewton
from jaxsteer.solvers._chart import Chart
from jaxsteer.solvers._matrix_newton import REACH, safe_share
from tests.solvers.matrix_problems import random_sum

D = 3


def bound(share, decrement, length):
    """What a step is known to lower a quadratic with a log-det barrier by, at least."""
    inner = share * length
    return (
        -decrement * share
        + 0.5 * (decrement - length**2) * share**2
        - inner
        - np.log1p(-inner)
    )


@pytest.mark.parametrize(
    ("decrement", "length"), [(0.09, 0.2), (4.0, 0.3), (4.0, 2.0), (900.0, 0.8)]
)
def test_the_share_minimizes_the_bound(decrement, length):
    shares = np.linspace(0, min(1, 0.999 / length), 20_001)
    values = bound(shares, decrement, length)
    share = float(safe_share(jnp.asarray(decrement), jnp.asarray(length)))
    assert np.isclose(bound(share, decrement, length), values.min(), rtol=1e-4)


def test_limits_of_the_share():
    def share(decrement, length):
        return float(safe_share(jnp.asarray(decrement), jnp.asarray(length)))

    assert share(0.0, 0.0) == 1.0  # nothing to do
    assert np.isclose(share(9.0, 3.0), 1 / 4)  # the barrier alone: 1 / (1 + l)
    assert share(1e8, 10.0) == pytest.approx(REACH / 10)  # short of the cone's edge
    assert share(1e8, 1e-4) == pytest.approx(1.0, abs=1e-3)  # the quadratic alone


def test_the_straight_chart_and_its_log_determinant(eps):
    rng = np.random.default_rng(0)
    left = jnp.asarray(rng.normal(size=(1, D, D)))
    e = rng.normal(size=(1, D, D))
    e = jnp.asarray(0.1 * (e + np.swapaxes(e, 1, 2)))
    chart = Chart(
        left=left,
        right=jnp.swapaxes(left, 1, 2),
        symmetric=jnp.array(True),
        free=jnp.array([True]),
    )
    there, growth = chart.move(e, jnp.array(True))
    wanted = left @ (jnp.eye(D) + e) @ jnp.swapaxes(left, 1, 2)
    np.testing.assert_allclose(there.point, wanted, rtol=100 * eps, atol=100 * eps)
    grown = np.linalg.slogdet(np.asarray(jnp.eye(D) + e[0]))[1]
    assert np.isclose(growth[0], grown, rtol=1e-5)
    bent, _ = chart.move(e)
    assert not np.allclose(bent.point, wanted, rtol=1e-3)
    # General directions, which no symmetric factor holds.
    loose = dataclasses.replace(chart, symmetric=jnp.array(False))
    turned = jnp.asarray(0.5 * rng.normal(size=(1, D, D)))
    there, growth = loose.move(turned)
    before, after = (
        np.linalg.slogdet(np.asarray(c.point[0]))[1] for c in (chart, there)
    )
    assert np.isclose(growth[0], after - before, rtol=1e4 * eps)


def test_steps_get_more_products_with_every_second_one_that_uses_them_up():
    objective, solver = random_sum(2, D, 0), MatrixNewton(max_products=20)
    chart = Chart(
        left=jnp.eye(D)[None],
        right=jnp.eye(D)[None],
        symmetric=jnp.array(False),
        free=jnp.array([True]),
    )
    memory = solver.begin(chart.sides)
    few = solver.propose(objective, chart, memory, jnp.array(True))
    limits = []
    for used_up in (True, False, True, True, False, False, True, True, True):
        tried = few._replace(used_up=jnp.array(used_up))
        memory = solver.judge(tried, memory, jnp.ones(()), jnp.zeros(()), 1.0).memory
        limits.append(int(memory.products))
    assert limits == [4, 4, 16, 16, 16, 16, 20, 20, 20]
    # Steps that end for want of products say so, but for those with all there are.
    far = memory._replace(radius=jnp.asarray(1e3), products=jnp.asarray(1, jnp.int32))
    assert solver.propose(objective, chart, far, jnp.array(True)).used_up
    least = MatrixNewton(max_products=1)
    assert not least.propose(objective, chart, far, jnp.array(True)).used_up


def test_a_heavier_barrier_is_used_only_where_the_gradient_is_large():
    objective = random_sum(2, D, 0)
    sides = {"symmetric": jnp.array(True), "free": jnp.array([True])}

    def heavier(scale, fixed, heaviest=jnp.inf):
        side = scale * jnp.eye(D)[None]

        class Seen(type(objective)):
            def expand(self, left, right):
                near = super().expand(left, right)
                return near._replace(fixed_target=fixed)

        seen = Seen(**vars(objective))
        chart = Chart(left=side, right=side, **sides)
        return chart.expand(seen, heaviest=jnp.asarray(heaviest))

    assert heavier(0.7, True).heavier == 1
    far = heavier(30.0, True)
    assert far.heavier > 1e4 and bool(far.straight)
    assert heavier(30.0, True, 7.0).heavier == 7
    # A target that moves along is no convex problem: no path, no straight chart.
    other = heavier(30.0, False)
    assert other.heavier == 1 and other.straight is None
    # The step's own gradient is that of the heavier barrier; the residual's is not.
    lifted = far.aim - far.slope
    weight = float(objective.weight)
    np.testing.assert_allclose(
        lifted[0], -(far.heavier - 1) * weight * jnp.eye(D), rtol=1e-4, atol=1e-2
    )
    assert jax.tree.leaves(far.gentle)[0] > 1


@pytest.mark.parametrize("name", ["max_steps", "max_products", "random_starts"])
@pytest.mark.parametrize("value", [-1, 2.0, float("nan"), True, "4", ""])
def test_limits_that_are_no_whole_numbers_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}=.* must be a whole number"):
        MatrixNewton(**{name: value})
    assert getattr(MatrixNewton(**{name: np.int64(3)}), name) == 3
