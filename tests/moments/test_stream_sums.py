"""Streaming moments against sums written out in NumPy's long doubles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.moments import init, update

CELLS, D = 6, 5


def rows(offset=0.0, scale=1.0, n=2500, dtype=np.float64):
    """Rows whose cells differ in mean, spread and skewness; the last cell is empty."""
    rng = np.random.default_rng(0)
    cell = rng.integers(0, CELLS - 1, n)
    x = rng.gamma(2.0, size=(n, D)) @ rng.normal(size=(D, D)) * (1 + cell)[:, None]
    x = (x + 3.0 * cell[:, None]) * scale + offset
    return x.astype(dtype), cell, rng.uniform(0.0, 2.0, n)


def expected(x, cell, weights, scatter):
    """The definitions, cell by cell, in extended precision."""
    x, weights = x.astype(np.longdouble), weights.astype(np.longdouble)
    owner = {"cell": lambda c: c, "group": lambda c: c % 2, "pooled": lambda c: 0}
    kept = {"cell": CELLS, "group": 2, "pooled": 1}[scatter]
    mean, third = np.zeros((2, CELLS, D), np.longdouble)
    cov, total = np.zeros((kept, D, D), np.longdouble), np.zeros(kept, np.longdouble)
    level, fourth = np.zeros((2, CELLS), np.longdouble)
    for c in np.unique(cell):
        mine, w = x[cell == c], weights[cell == c]
        w = w / w.sum()
        mean[c] = w @ mine
        y = mine - mean[c]
        gram = (w[:, None] * y).T @ y
        level[c] = np.trace(gram) / D
        mass = weights[cell == c].sum()
        cov[owner[scatter](c)] += mass * gram
        total[owner[scatter](c)] += mass
        norms = (y * y).sum(1) / level[c]
        if scatter == "cell":
            third[c] = (w * norms) @ y / np.sqrt(level[c])
            fourth[c] = w @ norms**2
    cov /= np.where(total > 0, total, 1)[:, None, None]
    return {"mean": mean, "cov": cov, "third": third, "fourth": fourth, "level": level}


def check(found, wanted, tolerance):
    for name, value in wanted.items():
        near = np.asarray(getattr(found, name), np.float64)
        wanted_here = value.astype(np.float64)
        # A vector or a matrix is as large as its largest entry.
        size = np.abs(wanted_here).max()
        np.testing.assert_allclose(near, wanted_here, rtol=0, atol=tolerance * size)


def moments_of(x, cell, weights, scatter="cell"):
    state = init(D, n_classes=3, n_groups=2, scatter=scatter)
    return update(state, x, cell // 2, cell % 2, weights=weights)


# Float32 sums of 2,500 rows.
TOLERANCE = 1e-12 if jax.config.jax_enable_x64 else 1e-5


@pytest.mark.x64
@pytest.mark.parametrize("scatter", ["cell", "group", "pooled"])
@pytest.mark.parametrize("weighted", [False, True])
def test_moments_are_those_of_the_definitions(scatter, weighted):
    x, cell, weights = rows(dtype=jnp.result_type(float))
    share = weights if weighted else np.ones(len(x))
    found = moments_of(x, cell, share if weighted else None, scatter)
    check(found, expected(x, cell, share, scatter), TOLERANCE)
    assert found.mass[-1] == 0 and not found.mean[-1].any()
    np.testing.assert_allclose(found.squares, np.bincount(cell, share**2, CELLS), 1e-5)


@pytest.mark.parametrize(
    ("offset", "scale"), [(1e4, 1.0), (0.0, 1e-15), (0.0, 1e15), (-1e6, 1e3)]
)
def test_offsets_and_units_keep_digits(offset, scale):
    x, cell, weights = rows(offset, scale, dtype=np.float32)
    found = moments_of(x, cell, weights)
    check(found, expected(x, cell, weights, "cell"), 1e-5)


@pytest.mark.parametrize("dtype", [np.int16, np.bool_, jnp.bfloat16, np.float16])
def test_any_real_dtype(dtype):
    x, cell, weights = rows()
    x = x > 3 if dtype is np.bool_ else np.clip(x, -100, 100).astype(dtype)
    found = moments_of(x, cell, weights)
    check(found, expected(np.asarray(x, np.float64), cell, weights, "cell"), 1e-5)


def test_sorted_rows_that_drift():
    """The rows that say where a cell is are taken from its whole length."""
    x, cell, weights = rows(dtype=np.float32)
    x = x + np.linspace(0, 1e3, len(x), dtype=np.float32)[:, None]
    order = np.argsort(cell, kind="stable")
    x, cell, weights = x[order], cell[order], weights[order]
    found = moments_of(x, cell, weights)
    check(found, expected(x, cell, weights, "cell"), 1e-5)


@pytest.mark.parametrize("scatter", ["cell", "group", "pooled"])
def test_rows_of_no_weight_are_not_read(scatter):
    x, cell, weights = rows(1e4, dtype=np.float32)
    wanted = expected(x, cell, weights, scatter)
    padding = np.full((700, D), -1e6, np.float32)
    x, cell = np.concatenate([padding, x]), np.concatenate([np.zeros(700, int), cell])
    weights = np.concatenate([np.zeros(700), weights])
    check(moments_of(x, cell, weights, scatter), wanted, 1e-5)


def test_one_cell_of_equal_rows():
    found = update(init(2, n_classes=1), np.full((4, 2), 3.0), np.zeros(4, int))
    assert found.mean.tolist() == [[3.0, 3.0]]
    assert not found.cov.any() and not found.third.any() and not found.fourth.any()


@pytest.mark.parametrize("scatter", ["cell", "group", "pooled"])
def test_vmap_over_as_many_batches_as_there_are_cells(scatter):
    """XLA for CPUs adds integers wrongly where these numbers are equal."""
    x, cell, weights = (part[:2400] for part in rows(dtype=np.float32))
    parts = [
        np.reshape(part, (CELLS, 400, *part.shape[1:])) for part in (x, cell, weights)
    ]
    state = init(D, n_classes=3, n_groups=2, scatter=scatter)
    many = jax.vmap(lambda x, c, w: update(state, x, c // 2, c % 2, weights=w))(*parts)
    for place in range(CELLS):
        mine = [part[place] for part in parts]
        found = jax.tree.map(lambda leaf, place=place: leaf[place], many)
        check(found, expected(*mine, scatter), 1e-5)


def test_gradients_of_higher_moments():
    x, cell, weights = (part[:300] for part in rows(dtype=np.float32))
    state = init(D, n_classes=3, n_groups=2)

    def total(x):
        found = update(state, x, cell // 2, cell % 2, weights=weights)
        return jnp.sum(found.third) + jnp.sum(found.fourth)

    assert jnp.isfinite(jax.grad(total)(jnp.asarray(x))).all()


def test_inside_shard_map_with_its_checks():
    x, cell, weights = rows(dtype=np.float32)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("rows",))
    along = jax.sharding.PartitionSpec("rows")

    def own(x, cell, weights):
        state = init(D, n_classes=3, n_groups=2)
        found = update(state, x, cell // 2, cell % 2, weights=weights)
        return jax.tree.map(lambda leaf: leaf[None], found)

    given = [jnp.asarray(part) for part in (x, cell, weights)]
    found = jax.shard_map(own, mesh=mesh, in_specs=along, out_specs=along)(*given)
    found = jax.tree.map(lambda leaf: leaf[0], found)
    check(found, expected(x, cell, weights, "cell"), 1e-5)
