from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.channels._entropic_kernel import diluted, entropic_kernel
from jaxsteer.channels._roc import (
    concave_hull,
    degrading_kernel,
    lower_envelope,
    roc_points,
)
from jaxsteer.solvers import SolveError, Status
from tests.programs import optimized

pytestmark = pytest.mark.slow

EPS = float(jnp.finfo(jnp.result_type(float)).eps)
X64 = EPS < 1e-10
BINS = 10


def experiments(seed, bins=BINS):
    """A binned experiment, its meet with another, which it touches, and class shares."""
    rng = np.random.default_rng(seed)
    laws = [np.sort(rng.dirichlet(np.full(bins, 2.0), 2)) for _ in range(2)]
    laws = [np.stack([one[0][::-1], one[1]]) for one in laws]
    roc = lower_envelope([concave_hull(roc_points(*one)) for one in laws])
    target = np.diff(roc, axis=0).T[:, ::-1]
    # One number of atoms for all seeds, for one compilation: the last are without mass.
    target = np.pad(target, ((0, 0), (0, 2 * bins - target.shape[1])))
    return laws[0], target, rng.dirichlet([5.0, 5.0])


def rank_cost(source, target, mix):
    def middle(mass):
        return np.cumsum(mass) - mass / 2

    mass = mix @ source
    away = middle(mass)[:, None] - middle(mix @ target)[None, :]
    return mass[:, None] * away**2


def crossing(seed=0, bins=BINS):
    """An experiment and a target that is strictly less informative, atoms = bins."""
    source, _, mix = experiments(seed, bins)
    return source, 0.5 * source + 0.5 * (mix @ source), mix


SOLVE = optimized(entropic_kernel)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("temperature", [1e-2, 1e-3, 1e-4])
def test_the_diluted_target_is_delivered_to_rounding(seed, temperature):
    source, target, mix = experiments(seed)
    found = SOLVE(source, target, mix, temperature=temperature).require()
    kernel = np.asarray(found.kernel, float)
    goal = np.asarray(diluted(jnp.asarray(target), jnp.asarray(mix), 1e-3), float)
    limit = (100 + 0.01 / temperature) * EPS
    assert np.abs(source @ kernel - goal).max() < limit
    assert found.residual < limit and found.status == Status.CONVERGED
    assert kernel.min() >= 0 and 5 < found.steps < 60
    np.testing.assert_allclose(kernel.sum(1), 1, atol=100 * EPS)
    np.testing.assert_array_equal(kernel[:, target.sum(0) == 0], 0)
    cost = (rank_cost(source, target, mix) * kernel).sum()
    np.testing.assert_allclose(found.cost, cost, rtol=1e3 * EPS)


LEVELS = (1e-1, 1e-2, 1e-3, 1e-4)


def costs_above_the_least(seed):
    """What each temperature costs more than the linear program, and its atoms."""
    source, target, mix = experiments(seed)
    goal = (1 - 1e-3) * target + 1e-3 * (mix @ target)
    used = goal.sum(0) > 0
    exact, _ = degrading_kernel(source, goal[:, used], mix)
    least = (rank_cost(source, goal[:, used], mix) * exact).sum()
    solve = [entropic_kernel(source, target, mix, temperature=t) for t in LEVELS]
    return np.array([float(one.cost) for one in solve]) - least, used.sum()


@pytest.mark.parametrize("seed", range(4))
def test_cost_falls_to_the_linear_programs(seed):
    above, atoms = costs_above_the_least(seed)
    rounding = 300 * EPS  # a difference of residuals times ranks
    assert (above > -rounding).all()
    assert (above <= np.array(LEVELS) * np.log(atoms) + rounding).all()
    # In float32 the coldest cost is of the size of its rounding; see the next test.
    assert (np.diff(above) < 0).all() and above[-1] < 1e-2 * above[0] + rounding


@pytest.mark.parametrize("seed", range(4))
def test_cost_falls_a_hundredfold(seed, x64):
    above, _ = costs_above_the_least(seed)
    assert (np.diff(above) < 0).all() and above[-1] < 1e-2 * above[0]


@pytest.mark.parametrize("seed", range(2))
def test_the_kernel_is_that_of_a_conic_solver(seed, x64):
    cp = pytest.importorskip("cvxpy", reason="cvxpy is not installed")
    source, target, mix = experiments(seed)
    temperature, margin = 1e-2, 0.05
    found = entropic_kernel(
        source, target, mix, temperature=temperature, margin=margin
    ).require()
    used = target.sum(0) > 0
    target = target[:, used]
    goal = (1 - margin) * target + margin * (mix @ target)
    unknown = cp.Variable((source.shape[1], target.shape[1]), nonneg=True)
    mass = (mix @ source)[:, None] * np.ones(goal.shape[1])
    objective = cp.sum(cp.multiply(rank_cost(source, target, mix), unknown))
    objective -= temperature * cp.sum(cp.multiply(mass, cp.entr(unknown)))
    constraints = [cp.sum(unknown, axis=1) == 1, source @ unknown == goal]
    program = cp.Problem(cp.Minimize(objective), constraints)
    least = program.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_feas=1e-10)
    kernel = np.asarray(found.kernel)[:, used]
    np.testing.assert_allclose(kernel, unknown.value, atol=1e-4)
    logs = np.log(np.where(kernel > 0, kernel, 1))
    smooth = rank_cost(source, target, mix) + temperature * mass * logs
    np.testing.assert_allclose((kernel * smooth).sum(), least, atol=1e-8)


def test_touching_targets_are_reached_without_a_margin_in_float64(x64):
    source, target, mix = experiments(0)
    found = entropic_kernel(source, target, mix, temperature=0.1, margin=0.0)
    assert found.residual < 1e-12
    # Where the curves touch no bin above may reach an atom below: full support is lost.
    used = target.sum(0) > 0
    assert np.asarray(found.kernel)[:, used].min() < 1e-12
    full = entropic_kernel(source, target, mix, temperature=0.1, margin=0.1)
    assert np.asarray(full.kernel)[:, used].min() > 1e-11


def test_a_larger_margin_says_less():
    source, target, mix = crossing()
    rates = []
    for margin in (0.0, 0.5, 0.9):
        kernel = entropic_kernel(source, target, mix, margin=margin).require().kernel
        law = source @ np.asarray(kernel, float)
        rates.append(np.abs(law[1] - law[0]).sum())
    np.testing.assert_allclose(rates[1:], np.array([0.5, 0.1]) * rates[0], rtol=1e-3)


def test_every_status_can_be_had():
    source, target, mix = crossing()
    codes = {
        Status.INFEASIBLE: entropic_kernel(target, source, mix),
        Status.MAX_STEPS: entropic_kernel(source, target, mix, max_steps=2),
        Status.BAD_INPUT: entropic_kernel(-source, target, mix),
        Status.CONVERGED: entropic_kernel(source, target, mix),
    }
    for code, found in codes.items():
        assert found.status == code, code
        assert bool(found.converged) == (code == Status.CONVERGED)
    assert codes[Status.INFEASIBLE].steps == 0
    with pytest.raises(SolveError, match="entropic kernel: INFEASIBLE"):
        codes[Status.INFEASIBLE].require()
    assert codes[Status.CONVERGED].require() is codes[Status.CONVERGED]


def test_too_cold_for_the_precision_is_said():
    source, target, mix = experiments(1)
    cold = 1e-12 if X64 else 1e-7
    found = entropic_kernel(source, target, mix, temperature=cold)
    assert found.status in (Status.STALLED, Status.MAX_STEPS)
    assert 2000 * EPS < found.residual < 0.1


def test_bins_without_rows_change_nothing():
    source, target, mix = crossing()
    wide = np.insert(source, 4, 0.0, axis=1)
    found = entropic_kernel(wide, target, mix).require()
    alone = entropic_kernel(source, target, mix).require()
    kept = np.delete(np.asarray(found.kernel), 4, axis=0)
    np.testing.assert_allclose(kept, alone.kernel, atol=1e5 * EPS)
    np.testing.assert_allclose(found.kernel.sum(1), 1, atol=100 * EPS)


def test_an_uninformative_source_is_served():
    _, _, mix = crossing()
    law = np.tile(np.random.default_rng(0).dirichlet(np.ones(BINS)), (2, 1))
    found = entropic_kernel(law, np.full((2, BINS), 1 / BINS), mix).require()
    assert found.residual < 100 * EPS


def test_batches_give_what_each_gives_alone_and_failures_stay_apart():
    solve = jax.jit(jax.vmap(entropic_kernel))
    batch = [np.stack(v) for v in zip(*[crossing(s) for s in range(4)], strict=True)]
    found = solve(*batch)
    for row in range(4):
        alone = entropic_kernel(*(v[row] for v in batch))
        np.testing.assert_allclose(found.kernel[row], alone.kernel, atol=1e5 * EPS)
        assert alone.status == found.status[row] == Status.CONVERGED
    broken = [v.copy() for v in batch]
    broken[0][2, 0, 0] = np.nan
    mixed = solve(*broken)
    assert mixed.status.tolist() == [0, 0, int(Status.BAD_INPUT), 0]
    for row in (0, 1, 3):
        np.testing.assert_array_equal(mixed.kernel[row], found.kernel[row])
    with pytest.raises(SolveError, match=r"1 of 4 problems failed \(row 2: BAD_INPUT"):
        mixed.require()


def test_new_values_do_not_retrace():
    traces = []

    @jax.jit
    def solve(source, target, mix, temperature, margin):
        traces.append(0)
        found = entropic_kernel(
            source, target, mix, temperature=temperature, margin=margin
        )
        return found.cost

    costs = [solve(*crossing(s), t, m) for s, t, m in [(0, 1e-2, 0.1), (1, 1e-3, 0.0)]]
    assert len(traces) == 1 and costs[0] != costs[1]


def value(args, weights):
    source, target, mix, temperature, margin = args
    found = entropic_kernel(source, target, mix, temperature=temperature, margin=margin)
    return jnp.sum(found.kernel * weights) + found.cost


def gradient_case():
    # The target touches the source, as a meet does.
    source, target, mix = experiments(2, bins=6)
    target = target[:, target.sum(0) > 0]
    args = (source, target, mix, np.array(2e-3), np.array(1e-2))
    args = jax.tree.map(jnp.asarray, args)
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.normal(size=(source.shape[1], target.shape[1])))

    def direction(seed):
        rng = np.random.default_rng(seed)
        ways = []
        for law in (source, target):
            way = rng.normal(size=law.shape)
            ways.append(way - way.mean(1, keepdims=True))
        share = rng.normal()
        both = [jnp.asarray(0.01 * way) for way in ways]
        # The target's mass given the mix must not leave the source's curve: scaled down.
        return (*both, jnp.array([0.1, -0.1]) * share, jnp.array(1e-3), jnp.array(1e-2))

    return args, weights, direction


def test_implicit_derivatives_are_finite_differences(x64):
    args, weights, direction = gradient_case()
    slope = jax.jit(jax.grad(value))(args, weights)
    push = jax.jit(lambda way: jax.jvp(lambda a: value(a, weights), (args,), (way,))[1])
    for seed in range(3):
        way = direction(seed)
        ahead, back = (
            value(jax.tree.map(lambda x, v, s=s: x + s * v, args, way), weights)
            for s in (1e-5, -1e-5)
        )
        measured = (ahead - back) / 2e-5
        products = jax.tree.map(lambda g, v: jnp.sum(g * v), slope, way)
        np.testing.assert_allclose(sum(products), measured, rtol=1e-5)
        np.testing.assert_allclose(push(way), measured, rtol=1e-5)


def test_second_derivatives_are_finite_differences(x64):
    args, weights, _ = gradient_case()
    slope = jax.grad(lambda t: value((*args[:3], t, args[4]), weights))
    t, h = args[3], 1e-7
    measured = (slope(t + h) - slope(t - h)) / (2 * h)
    np.testing.assert_allclose(jax.jacfwd(slope)(t), measured, rtol=1e-5)


def test_derivatives_in_float32_are_near_those_in_float64():
    args, weights, _ = gradient_case()
    slope = jax.grad(value)(args, weights)
    # From the float64 run of this test.
    np.testing.assert_allclose(slope[3], -7.977050, rtol=1e-6 if X64 else 0.05)
    np.testing.assert_allclose(slope[4], -0.1882418, rtol=1e-6 if X64 else 0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": np.ones(3)}, "source has shape (3,), expected [2, cells]"),
        ({"target": np.ones((3, 4))}, "target has shape (3, 4)"),
        ({"mix": np.ones(3)}, "mix has shape (3,), expected the two class shares"),
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
        ({"temperature": np.nan}, "temperature=nan must be positive"),
        ({"margin": 1.0}, "margin=1.0 must be in [0, 1)"),
        ({"margin": -0.1}, "margin=-0.1 must be in [0, 1)"),
    ],
)
def test_bad_input_is_named(changes, message):
    names = dict(zip(("source", "target", "mix"), crossing(), strict=True))
    with pytest.raises(ValueError, match=re.escape(message)):
        entropic_kernel(**{**names, **changes})
