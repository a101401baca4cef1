"""Public functions under every transformation of JAX, by tracing alone.

Values under transformations are compared in each package's own tests; here nothing is
compiled, so that everything can be crossed with everything.
"""

from __future__ import annotations

import contextlib
from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js

K, G, D, N = 2, 3, 2, 3
MAPS = ("general", "positive_definite", "pivot", "shared_covariance", "diagonal")


def multivariate(rng):
    half = rng.normal(size=(K, G, D, 2 * D))
    cov = half @ half.swapaxes(-1, -2) / D + 0.3 * np.eye(D)
    return js.MultivariateNormal(
        jnp.asarray(rng.normal(size=(K, G, D)), jnp.float32),
        jnp.asarray(cov, jnp.float32),
    )


RNG = np.random.default_rng(0)
PRIORS = jnp.asarray(RNG.dirichlet(4 * np.ones(K * G)).reshape(K, G), jnp.float32)
FULL = js.Population(PRIORS, multivariate(RNG))
POSITIVE = jnp.asarray(RNG.uniform(0.5, 2.0, (2, K, G)), jnp.float32)
FAMILIES = {
    "normal": js.Normal(POSITIVE[0], POSITIVE[1]),
    "log_normal": js.LogNormal(POSITIVE[0], POSITIVE[1]),
    "gamma": js.Gamma(POSITIVE[0], POSITIVE[1]),
    "weibull": js.Weibull(POSITIVE[0], POSITIVE[1]),
    "laplace": js.Laplace(POSITIVE[0], POSITIVE[1]),
    "exponential": js.Exponential(POSITIVE[0]),
    "bernoulli": js.Bernoulli(POSITIVE[0]),
    "low_rank": js.LowRankNormal(
        FULL.conditionals.mean, jnp.ones((K, G, D, 1)), jnp.ones((K, G, D))
    ),
}


def smooth(found):
    """One number of all floating-point results."""
    leaves = [
        jnp.sum(jnp.sin(leaf))
        for leaf in jax.tree.leaves(found)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    return sum(leaves)


def solved(pop, **options):
    found = js.nearest_ideal(pop, **options)
    return found.kl + smooth(found.group_maps) + smooth(found.target)


# What is looked at, and a function of the population that has it.
FUNCTIONS = {
    **{
        f"nearest_ideal {intervention} {maps}": (
            FULL.conditionals,
            partial(solved, intervention=intervention, maps=maps),
        )
        for intervention in ("affirmative", "all_groups")
        for maps in MAPS
    },
    **{
        f"nearest_ideal {name}": (cells, partial(solved, intervention="all_groups"))
        for name, cells in FAMILIES.items()
    },
    "nearest_ideal joint": (
        FULL.conditionals,
        partial(solved, maps="positive_definite", priors="joint"),
    ),
    "ideality_gap": (FULL.conditionals, js.ideality_gap),
    "ideality_gap normal": (
        FAMILIES["normal"],
        partial(js.ideality_gap, intervention="all_groups"),
    ),
    "gaussian_channel": (
        FULL.conditionals,
        lambda pop: smooth(js.gaussian_channel(pop).group_maps),
    ),
    "kl": (FULL.conditionals, lambda pop: pop.kl(FULL) + FULL.kl(pop)),
    "cell_maps": (
        FULL.conditionals,
        lambda pop: smooth(pop.conditionals.transport_to(FULL.conditionals)),
    ),
    "bayes_rates": (
        FAMILIES["normal"],
        lambda pop: smooth(js.bayes_rates(pop, jnp.ones((K, K)) - jnp.eye(K))),
    ),
    "fit_population": (
        jnp.asarray(RNG.normal(size=(48, D)), jnp.float32),
        lambda pop: smooth(
            js.fit_population(
                pop.conditionals,
                np.arange(48) % K,
                np.arange(48) // 2 % G,
                shrinkage=0.1,
            ).conditionals
        ),
    ),
}
# Where every transformation is tried; the others are traced under the ones that failed
# once, each program with a derivative of its own.
EVERYWHERE = (
    "ideality_gap",
    "kl",
    "nearest_ideal all_groups general",
    "fit_population",
)
STRICT = "grad(vmap)"
ELSEWHERE = (STRICT, "second")


def of_cells(name):
    """The function of the conditionals' parameters alone, and where."""
    at, fn = FUNCTIONS[name]
    return lambda cells: fn(js.Population(PRIORS, cells)), at


def stacked(tree):
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * N), tree)


def batch(fn):
    return lambda many: jnp.sum(jax.vmap(fn)(many))


def along(fn, at):
    """The function along a direction, of one number."""
    return lambda t: fn(jax.tree.map(lambda leaf: leaf + t * 0.01 * leaf, at))


TRANSFORMS = {
    "jit": lambda fn, at: jax.eval_shape(jax.jit(fn), at),
    "grad": lambda fn, at: jax.eval_shape(jax.grad(fn), at),
    "jvp": lambda fn, at: jax.eval_shape(lambda p: jax.jvp(fn, (p,), (p,)), at),
    "vmap(grad)": lambda fn, at: jax.eval_shape(jax.vmap(jax.grad(fn)), stacked(at)),
    "grad(vmap)": lambda fn, at: jax.eval_shape(jax.grad(batch(fn)), stacked(at)),
    "jvp(vmap)": lambda fn, at: jax.eval_shape(
        lambda p: jax.jvp(batch(fn), (p,), (p,)), stacked(at)
    ),
    "second": lambda fn, at: jax.eval_shape(jax.grad(jax.grad(along(fn, at))), 0.0),
    "hessian(vmap)": lambda fn, at: jax.eval_shape(
        jax.hessian(lambda t: jnp.sum(jax.vmap(along(fn, at))(t))), jnp.zeros(N)
    ),
    "grad(checkpoint)": lambda fn, at: jax.eval_shape(jax.grad(jax.checkpoint(fn)), at),
    "grad(scan)": lambda fn, at: jax.eval_shape(
        jax.grad(
            lambda p: jax.lax.scan(lambda c, _: (c + fn(p), None), 0.0, length=2)[0]
        ),
        at,
    ),
}


CASES = [
    (name, transform)
    for name in FUNCTIONS
    for transform in (TRANSFORMS if name in EVERYWHERE else ELSEWHERE)
]


@contextlib.contextmanager
def strict():
    """Nothing is promoted, no rank is raised by itself, and NaN is looked for."""
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
    ):
        yield


@pytest.mark.parametrize(("name", "transform"), CASES)
def test_traces(name, transform):
    # One of those that every function has is traced under the strictest settings.
    with strict() if transform == STRICT else contextlib.nullcontext():
        TRANSFORMS[transform](*of_cells(name))


def equations(jaxpr):
    """The equations of a program, those of its loops and calls included."""
    total = len(jaxpr.eqns)
    for equation in jaxpr.eqns:
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")
        ):
            inner = getattr(value, "jaxpr", value)
            total += equations(inner) if hasattr(inner, "eqns") else 0
    return total


@pytest.mark.parametrize("maps", ["general", "pivot"])
@pytest.mark.parametrize("intervention", ["affirmative", "all_groups"])
def test_the_number_of_groups_does_not_change_the_program(intervention, maps):
    def size(n_groups):
        cells = jax.tree.map(
            lambda leaf: jnp.concatenate([leaf] * 7, 1)[:, :n_groups], FULL.conditionals
        )
        pop = js.Population(jnp.full((K, n_groups), 1 / (K * n_groups)), cells)
        solve = partial(js.nearest_ideal, intervention=intervention, maps=maps)
        return equations(jax.make_jaxpr(solve)(pop).jaxpr)

    few, many = size(3), size(20)
    assert abs(many - few) <= 0.02 * few


def test_every_function_is_traced_under_strict_settings():
    assert {name for name, transform in CASES if transform == STRICT} == set(FUNCTIONS)
    with pytest.raises(Exception, match="promotion"), strict():
        jax.eval_shape(lambda x: x + jnp.ones(2, jnp.float16), jnp.ones(2))


# One of each kind of program: general and definite searches, the shared covariance, the
# searches over few numbers, closed forms.
SHARDED = (
    "nearest_ideal affirmative general",
    "nearest_ideal all_groups pivot",
    "nearest_ideal all_groups shared_covariance",
    "nearest_ideal normal",
    "nearest_ideal weibull",
    "nearest_ideal bernoulli",
    "nearest_ideal joint",
    "ideality_gap",
    "gaussian_channel",
    "kl",
    "cell_maps",
)


@pytest.mark.parametrize("name", SHARDED)
def test_traces_under_shard_map_with_its_checks(name):
    fn, at = of_cells(name)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("rows",))
    rows = jax.sharding.PartitionSpec("rows")
    for each in (fn, jax.grad(fn)):
        program = jax.shard_map(
            jax.vmap(each), mesh=mesh, in_specs=rows, out_specs=rows, check_vma=True
        )
        jax.eval_shape(program, stacked(at))


def test_an_exported_program_gives_the_same():
    solve = jax.jit(partial(js.nearest_ideal, maps="shared_covariance"))
    leaves, tree = jax.tree.flatten(FULL)

    def kl(*leaves):
        return solve(jax.tree.unflatten(tree, leaves)).kl

    program = jax.export.export(jax.jit(kl))(*leaves)
    np.testing.assert_allclose(program.call(*leaves), solve(FULL).kl, rtol=1e-6)


def test_arguments_on_the_device_are_enough():
    solve = jax.jit(partial(js.nearest_ideal, maps="shared_covariance"))
    pop = jax.device_put(FULL)
    with jax.transfer_guard("disallow"):
        kl = solve(pop).kl
    assert np.isfinite(kl)
