"""Programs cut into stages answer as whole ones do."""

from __future__ import annotations

import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer import _compilation, _stages
from jaxsteer._stages import staged, uncut
from jaxsteer.ideal import _matrix_programs
from jaxsteer.solvers import _lanes, search

MANY = 60  # operations of a loop's body: more equations than a search has at least


def busy(x):
    for i in range(MANY):
        x = jnp.sin(x) + i
    return jnp.cos(x)


def looping(x, *, y, unused=None):
    """A dictionary of what was before, in and after a loop, an argument, a constant."""
    before = {"sum": x + y, "product": x * y}
    inside = jax.lax.while_loop(
        lambda state: state[1] < 5,
        lambda state: (busy(state[0]), state[1] + 1),
        (before["sum"], 0),
    )
    return {
        "before": before["product"],
        "loop": inside,
        "after": inside[0] - before["product"],
        "given": y,
        "known": 3,
    }


@pytest.fixture(autouse=True)
def _cut_all(monkeypatch):
    monkeypatch.setattr(_stages, "MANY_BESIDE", 0)


def cut(fn, *args, **kwargs):
    """The stages, and whether each is one of loops."""
    kinds = []

    def compile_stage(part, loops):
        kinds.append(loops)
        return jax.jit(part)

    return staged(jax.jit(fn).trace(*args, **kwargs), compile_stage), kinds


def test_a_cut_program_answers_as_the_whole_one():
    args, kwargs = (jnp.arange(3.0),), {"y": jnp.ones(3)}
    stages, kinds = cut(looping, *args, **kwargs)
    assert stages is not None
    assert kinds == [False, True, False]
    found, whole = stages(*args, **kwargs), jax.jit(looping)(*args, **kwargs)
    assert jax.tree.structure(found) == jax.tree.structure(whole)
    for mine, theirs in zip(*map(jax.tree.leaves, (found, whole)), strict=True):
        assert isinstance(mine, jax.Array) and mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    # Other values, the same programs.
    other = stages(2 * args[0], y=jnp.zeros(3))
    np.testing.assert_array_equal(other["before"], jnp.zeros(3))


def test_without_a_loop_there_is_one_stage():
    stages, kinds = cut(lambda x: (busy(x), x), 2.0)
    assert stages is not None
    assert kinds == [False]
    assert isinstance(stages(2.0)[1], jax.Array)
    assert stages(2.0)[0] == busy(2.0)


def test_two_searches_with_much_between_are_stages_of_their_own():
    def fn(x, several):
        first = looping(x, y=x)["after"]
        for _ in range(several):
            first = busy(first)
        return looping(first, y=x)

    for several, expected in (
        (0, [False, True, False]),
        (2, 2 * [False, True] + [False]),
    ):
        stages, kinds = cut(lambda x, n=several: fn(x, n), jnp.ones(2))
        assert kinds == expected
        assert stages is not None
        whole = jax.jit(fn, static_argnums=1)(jnp.ones(2), several)
        np.testing.assert_allclose(
            stages(jnp.ones(2))["after"], whole["after"], rtol=1e-5, atol=1e-6
        )


def test_an_uncut_program_is_one_stage_that_can_be_compiled_at_once():
    args, kwargs = (jnp.arange(3.0),), {"y": 2.0}
    traced = jax.jit(looping).trace(*args, **kwargs)
    stages = uncut(traced, lambda part, _: jax.jit(part), name="whole")
    assert len(stages.stages) == 1
    run = stages.compiled()
    assert isinstance(run.stages[0].run, jax.stages.Compiled)
    found, whole = run(*args, **kwargs), jax.jit(looping)(*args, **kwargs)
    assert jax.tree.structure(found) == jax.tree.structure(whole)
    for mine, theirs in zip(*map(jax.tree.leaves, (found, whole)), strict=True):
        assert mine.dtype == theirs.dtype and mine.weak_type == theirs.weak_type
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    run.clear_cache()  # nothing that it is made of has one


def test_small_loops_are_no_searches():
    def fn(x):
        return jax.lax.fori_loop(0, 3, lambda _, x: jnp.sin(x), x)

    assert cut(fn, 1.0)[1] == [False]


def test_where_little_runs_once_a_program_stays_whole(monkeypatch):
    monkeypatch.setattr(_stages, "MANY_BESIDE", 100)
    assert cut(looping, jnp.ones(2), y=jnp.ones(2)) == (None, [])


def test_what_nothing_depends_on_does_not_count(monkeypatch):
    def fn(x, y):
        busy(y)  # dead
        return looping(x, y=x)

    monkeypatch.setattr(_stages, "MANY_BESIDE", MANY)
    assert cut(fn, jnp.ones(2), jnp.ones(2)) == (None, [])


def sizes_between(stages):
    """How many numbers each stage but the last hands on."""
    counts = []

    def watched(run):
        def call(*args):
            found = run(*args)
            counts.append(sum(leaf.size for leaf in found))
            return found

        return call

    spied = stages._replace(
        stages=[s._replace(run=watched(s.run)) for s in stages.stages]
    )
    return spied, counts


def test_large_programs_make_again_what_is_cheap(monkeypatch):
    monkeypatch.setattr(_stages, "FEW_ENTRIES", 4)

    def fn(x, scale):
        mine = jnp.swapaxes(x[::-1], 0, 1) * scale  # cheap, of an argument
        square = mine @ mine
        turned = square.T  # cheap, of what is kept
        shrunk = square * scale  # as large as what it is made from
        end = looping(square, y=mine)["after"]
        return end, mine, turned, shrunk

    args = jnp.arange(9.0).reshape(3, 3) / 10, jnp.float32(2)
    traced = jax.jit(fn).trace(*args)
    for large, kept in ((True, 4), (False, 5)):
        stages = staged(traced, lambda part, _: jax.jit(part), large=large)
        assert stages is not None
        spied, counts = sizes_between(stages)
        found, whole = spied(*args), jax.jit(fn)(*args)
        for mine, theirs in zip(found, whole, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6)
        # The sum and the product in `looping`, and the square's multiple; and the square
        # alone, or the first array and the turned square.
        assert counts[0] == 9 * kept, counts


def test_what_no_later_stage_reads_is_dropped():
    stages, _ = cut(looping, jnp.ones(2), y=jnp.ones(2))
    assert stages is not None
    kept, seen = [], []

    def watched(run):
        def call(*args):
            seen.append([ref() is not None for ref in kept])
            found = run(*args)
            kept.extend(weakref.ref(leaf) for leaf in found)
            return found

        return call

    spied = [stage._replace(run=watched(stage.run)) for stage in stages.stages]
    stages._replace(stages=spied)(jnp.ones(2), y=jnp.ones(2))
    before, after = stages.stages[0].gives, stages.stages[1].takes
    # While the last stage runs, only what it takes is held.
    assert seen[2][: len(before)] == [
        place in stages.stages[2].takes for place in before
    ]
    assert not set(before) <= set(stages.stages[2].takes)
    assert set(after) >= {
        place for place in before if place not in stages.stages[2].takes
    }


@pytest.mark.parametrize("maps", ["positive_definite", "pivot"])
@pytest.mark.parametrize("intervention", ["affirmative", "all_groups"])
def test_definite_searches_hold_no_points(monkeypatch, maps, intervention):
    held = []

    def watched(solver, objective, starts, *args):
        held.append(starts.points.shape[0])
        return search(solver, objective, starts, *args)

    monkeypatch.setattr(_matrix_programs, "search", watched)
    cells = js.MultivariateNormal(jnp.zeros((2, 2, 5)), jnp.ones((2, 2, 5, 5)))
    pop = js.Population(jnp.full((2, 2), 0.25), cells)
    jax.eval_shape(
        lambda pop: js.nearest_ideal(pop, maps=maps, intervention=intervention), pop
    )
    assert set(held) == {0}


@pytest.mark.parametrize(
    ("maps", "intervention"),
    [("positive_definite", "affirmative"), ("positive_definite", "all_groups")],
)
def test_large_searches_answer_as_others(monkeypatch, maps, intervention):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(2, 2, 3, 3))
    cov = root @ np.swapaxes(root, -1, -2) + np.eye(3)
    cells = js.MultivariateNormal(rng.normal(size=(2, 2, 3)), cov)
    pop = js.Population(jnp.array([[0.3, 0.2], [0.3, 0.2]]), cells)

    def solve():
        return js.nearest_ideal(pop, maps=maps, intervention=intervention, reference=1)

    expected = solve()
    monkeypatch.setattr(_compilation, "MANY_ENTRIES", 9)
    monkeypatch.setattr(_lanes, "LARGE", 9)
    monkeypatch.setattr(_stages, "FEW_ENTRIES", 4)
    found = solve()
    assert int(found.status) == int(expected.status) == 0
    np.testing.assert_allclose(found.kl, expected.kl, rtol=1e-5)
    np.testing.assert_allclose(
        found.group_maps.weight, expected.group_maps.weight, atol=1e-3
    )
