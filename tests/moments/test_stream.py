from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moment_rows import close, some_rows

from jaxsteer.moments import (
    MomentState,
    accumulate,
    finish,
    fit_population,
    init,
    marginal_covariances,
    marginal_means,
    merge,
    merge_over,
    update,
)
from tests.programs import check_ends

X, LABEL, GROUP = some_rows(n=96)
WEIGHTS = np.asarray(np.random.default_rng(1).uniform(0.2, 2, 96), np.float32)
SIZES = {"n_classes": 2, "n_groups": 2}


def batches(x=X, weights=WEIGHTS, size=32):
    for i in range(0, len(x), size):
        part = slice(i, i + size)
        own = None if weights is None else weights[part]
        yield x[part], LABEL[part], GROUP[part], own


def state_of(x=X, weights=WEIGHTS, size=32, **options):
    return accumulate(batches(x, weights, size), **SIZES, **options)


def same(left: MomentState, right: MomentState, factor=500):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        close(a, b, factor)


@pytest.mark.parametrize("shrinkage", ["oas", "ledoit-wolf", 0.3, None])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_finish_is_fit_population(shrinkage, weights):
    found = finish(state_of(weights=weights), shrinkage=shrinkage)
    expected = fit_population(X, LABEL, GROUP, shrinkage=shrinkage, weights=weights)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        close(a, b, 1000)


def test_a_covariance_for_every_group_is_the_tied_fit():
    found = finish(state_of(scatter="group"))
    expected = fit_population(X, LABEL, GROUP, weights=WEIGHTS, covariance="tied")
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        close(a, b, 1000)


@pytest.mark.parametrize("scatter", ["cell", "group", "pooled"])
def test_any_split_and_any_order_give_the_same(scatter):
    whole = state_of(size=96, scatter=scatter)
    # The last batch is short; it is filled up with rows of no weight.
    same(state_of(size=40, scatter=scatter), whole)
    parts = [
        update(init(3, **SIZES, scatter=scatter), *b[:3], weights=b[3])
        for b in batches()
    ]
    same(merge(*parts), whole)
    same(merge(parts[2], merge(parts[1], parts[0])), whole)
    empty = init(3, **SIZES, scatter=scatter)
    same(merge(empty, whole, empty), whole)
    continued = accumulate(
        list(batches())[2:], **SIZES, state=merge(parts[0], parts[1])
    )
    same(continued, whole)


def test_sharded_rows_are_merged_over_devices():
    stack = [np.stack(part) for part in zip(*batches(), strict=True)]

    def own(x, label, group, weights):
        state = update(init(3, **SIZES), x, label, group, weights=weights)
        return merge_over(state, "devices")

    found = jax.jit(jax.vmap(own, axis_name="devices"))(*stack)
    for device in range(3):
        same(jax.tree.map(lambda leaf, i=device: leaf[i], found), state_of())


def test_marginals_are_those_of_the_rows():
    state = state_of()
    for by, codes in (("all", LABEL * 0), ("class", LABEL), ("group", GROUP)):
        mass, mean = marginal_means(state, by)
        cov = marginal_covariances(state, by)
        for code in range(codes.max() + 1):
            own = codes == code
            close(mass[code], WEIGHTS[own].sum(), 1000)
            close(mean[code], np.average(X[own], axis=0, weights=WEIGHTS[own]))
            expected = np.cov(X[own].T, aweights=WEIGHTS[own], ddof=0)
            close(cov[code], expected, 1000)
    total = marginal_covariances(state, "all")
    for scatter in ("group", "pooled"):
        close(marginal_covariances(state_of(scatter=scatter), "all"), total, 1000)
    group = marginal_covariances(state_of(scatter="group"), "group")
    close(group, marginal_covariances(state, "group"), 1000)


@pytest.mark.parametrize("scatter", ["cell", "pooled"])
def test_half_precision_rows_far_from_zero_keep_their_digits(scatter):
    rows = jnp.asarray(X + 50, jnp.bfloat16)
    found = state_of(rows, scatter=scatter, size=32)
    assert found.cov.dtype == jnp.result_type(float)
    exact = state_of(np.asarray(rows.astype(jnp.float32)), scatter=scatter, size=96)
    same(found, exact, 2000)
    # Sums in the precision of the rows would be off by more than this.
    wide = np.asarray(rows.astype(jnp.float32), np.float64)
    expected = np.cov(wide.T, aweights=WEIGHTS, ddof=0)
    close(marginal_covariances(found, "all")[0], expected, 5000)


def test_a_large_offset_and_many_batches():
    rng = np.random.default_rng(0)
    x = np.asarray(1e4 + rng.normal(size=(96 * 20, 3)), np.float32)
    label = np.tile(LABEL, 20)
    state = accumulate(
        ((x[i : i + 96], label[i : i + 96]) for i in range(0, len(x), 96)),
        n_classes=2,
        scatter="pooled",
    )
    expected = np.cov(x.T.astype(float), ddof=0)
    found = marginal_covariances(state, "all")[0]
    # The rows lie on a grid of 1e4 eps; sums of squares about 0 would keep no digit.
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_batches_of_one_length_compile_once():
    state = init(3, **SIZES)
    traces = []

    @jax.jit
    def step(state, x, label, group):
        traces.append(1)
        return update(state, x, label, group)

    for x, label, group, _ in batches():
        state = step(state, x, label, group)
    assert len(traces) == 1
    same(state, state_of(weights=None))


def test_traced_codes_out_of_range_make_nan():
    found = jax.jit(update)(init(3, **SIZES), X, LABEL + 1, GROUP)
    assert not jnp.isfinite(found.mean).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: init(0, n_classes=2), "n_features=0 must be"),
        (lambda: init(2, n_classes=2, scatter="none"), "scatter='none' is not known"),
        (lambda: init(2, n_classes=2, dtype=jnp.bfloat16), "bfloat16 is too narrow"),
        (lambda: update(init(2, **SIZES), X, LABEL, GROUP), r"shape \[n, 2\]"),
        (lambda: update(init(3, **SIZES), X, LABEL), "has 2 groups: pass group"),
        (
            lambda: update(init(3, **SIZES), X, LABEL + 1, GROUP),
            "label has codes from 1",
        ),
        (
            lambda: update(init(3, **SIZES), X, LABEL, GROUP + 2),
            "group has codes from 2",
        ),
        (lambda: update(init(3, **SIZES), X * np.nan, LABEL, GROUP), "not finite"),
        (
            lambda: update(init(3, **SIZES), X, LABEL, GROUP, weights=-WEIGHTS),
            "weights must be at least 0",
        ),
        (lambda: accumulate([], n_classes=2), "batches is empty"),
        (lambda: merge(init(2, **SIZES), init(3, **SIZES)), "different sizes"),
        (lambda: finish(state_of(scatter="pooled")), "one covariance for all groups"),
        (
            lambda: finish(state_of(scatter="group"), shrinkage="ledoit-wolf"),
            "needs fourth moments",
        ),
        (lambda: finish(init(3, **SIZES)), "no rows in the cells"),
        (lambda: marginal_means(state_of(), "row"), "by='row' is not known"),
        (
            lambda: marginal_covariances(state_of(scatter="pooled"), "class"),
            "does not tell covariances by class",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_small_cells_are_named():
    rows = next(batches(size=12, weights=None))
    state = accumulate([rows], **SIZES)
    with pytest.warns(UserWarning, match="fewer effective rows"):
        assert jnp.isfinite(finish(state).conditionals.cov).all()
    with pytest.raises(ValueError, match="fewer effective rows"):
        finish(state, shrinkage=None)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxsteer.moments import init, merge_over, update
rng = np.random.default_rng(0)
x = np.asarray(rng.normal(size=(64, 4)) + 3, np.float32)
label = np.arange(64) % 3
mesh = Mesh(np.array(jax.devices()), ("rows",))
rows = NamedSharding(mesh, P("rows"))
start = init(4, n_classes=3)
alone = update(start, x, label)
x, label = jax.device_put(x, rows), jax.device_put(label, rows)
def own(x, label):
    return merge_over(update(init(4, n_classes=3), x, label), "rows")
shared = jax.shard_map(
    own, mesh=mesh, in_specs=(P("rows"), P("rows")), out_specs=P(), check_vma=False
)
for found in (jax.jit(update)(start, x, label), jax.jit(shared)(x, label)):
    assert len(x.sharding.device_set) == 2
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
print("ended")
"""


@pytest.mark.slow
def test_rows_on_two_devices():
    check_ends(SHARDED, timeout=120, devices=2)
