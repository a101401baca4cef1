"""``Steering.verify``: what is promised is recomputed, and what is spoiled is caught."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer import families

K, G, D = 2, 2, 2
RNG = np.random.default_rng(0)
PRIORS = np.array([[0.3, 0.15], [0.25, 0.3]])
ROOT = RNG.normal(size=(K, G, D, D))


def positive(*shape):
    """Parameters between 1/2 and 2."""
    return jnp.asarray(RNG.uniform(0.5, 2, (K, G, *shape)))


def real(*shape):
    """Parameters of either sign."""
    return jnp.asarray(RNG.normal(size=(K, G, *shape)))


VECTORS = js.MultivariateNormal(
    real(D), jnp.asarray(ROOT @ ROOT.swapaxes(-1, -2) + 0.3 * np.eye(D))
)
# Closed forms and one-feature searches, which compile in no time, beside two searches of
# maps: the formulas, not the programs, are under test here.
LAWS = (
    js.Normal(real(), positive()),
    js.LogNormal(real(), positive()),
    js.DiagonalNormal(real(D), positive(D)),
    js.Bernoulli(real()),
    js.Categorical(real(3)),
    js.Poisson(positive()),
    families.Beta(positive(), positive()),
    families.Dirichlet(positive(3)),
    families.Geometric(real()),
    families.VonMises(real(), positive()),
    families.Product((js.Normal(real(), positive()), js.Bernoulli(real()))),
)


def population(law):
    """The law with this file's priors."""
    return js.Population(jnp.asarray(PRIORS), law)


@pytest.fixture(scope="module")
def vectors():
    """Two classes and groups of vectors, with maps of a shared covariance."""
    return js.nearest_ideal(population(VECTORS), maps="positive_definite")


@pytest.fixture(scope="module")
def line():
    """One feature."""
    return js.nearest_ideal(population(LAWS[0]))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_what_is_found_keeps_its_promises(law):
    found = js.nearest_ideal(population(law), intervention="all_groups").verify()
    assert found.ok, str(found)
    assert len(found.checks) == 5
    assert "verified in NumPy float64; status CONVERGED" in str(found)
    assert found.require() is found


@pytest.mark.parametrize(
    "law",
    [
        families.Laplace(real(), positive()),
        families.Gumbel(real(), positive()),
        js.Exponential(positive()),
        js.Gamma(positive(), positive()),
        families.InverseGamma(positive(), positive()),
        families.Rayleigh(positive()),
        js.Weibull(positive(), positive()),
        families.LowRankNormal(real(D), real(D, 1), positive(D)),
        VECTORS,
        *LAWS,
    ],
    ids=lambda law: type(law).__name__,
)
def test_formulas_agree_with_those_of_the_package(law):
    """Two hands, one answer: the divergences of all pairs of cells."""
    from jaxsteer import _host_laws as host

    other = jax.tree.map(lambda leaf: jnp.flip(leaf, 1), law)
    pairs = zip(host.read_laws(law), host.read_laws(other), strict=True)
    found = sum(host.divergence(*pair) for pair in pairs)
    np.testing.assert_allclose(found, law.kl(other), rtol=2e-4, atol=1e-6)


def test_vectors(vectors):
    found = vectors.verify()
    assert found.ok, str(found)
    assert found.maps == "positive definite"
    np.testing.assert_allclose(found.kl, vectors.kl, rtol=1e-4)


def spoiled(steering, part):
    """The steering with one number a few percent off."""

    def off(tree, name, by):
        return dataclasses.replace(tree, **{name: getattr(tree, name) * by})

    if part == "map":
        name = "weight" if hasattr(steering.group_maps, "weight") else "scale"
        value = getattr(steering.group_maps, name)
        by = jnp.asarray([1.0, 1.02]).reshape(-1, *[1] * (value.ndim - 1))
        maps = off(steering.group_maps, name, by)
        return dataclasses.replace(steering, group_maps=maps)
    if part == "kl":
        return dataclasses.replace(steering, kl=steering.kl * 1.01)
    if part == "priors":
        old = steering.source.priors
        target = dataclasses.replace(steering.target, priors=old)
        return dataclasses.replace(steering, target=target)
    # Ideal, but not nearest: the moving group's law and its map are turned together.
    step = jnp.asarray([1.0, 1.1])  # the first is the reference group
    law, maps = steering.target.conditionals, steering.group_maps
    if isinstance(law, js.MultivariateNormal):
        cov = law.cov * (step**2)[None, :, None, None]
        law = dataclasses.replace(law, mean=law.mean * step[:, None], cov=cov)
        maps = dataclasses.replace(maps, weight=maps.weight / step[:, None, None])
    else:
        law = dataclasses.replace(law, loc=law.loc * step, scale=law.scale * step)
        maps = dataclasses.replace(maps, scale=maps.scale / step)
    target = dataclasses.replace(steering.target, conditionals=law)
    kl = target.kl(steering.source)
    return dataclasses.replace(steering, target=target, group_maps=maps, kl=kl)


@pytest.mark.parametrize(
    ("part", "promise"),
    [
        ("map", "groups alike"),
        ("kl", "KL divergence"),
        ("priors", "class and group"),
        ("nearest", "no nearer answer"),
    ],
)
@pytest.mark.parametrize("what", ["line", "vectors"])
def test_what_is_spoiled_is_caught(request, what, part, promise):
    steering = request.getfixturevalue(what)
    assert int(steering.reference) == 0
    found = spoiled(steering, part).verify()
    broken = [check.name for check in found.checks if not check.holds]
    assert not found.ok
    assert any(name.startswith(promise) for name in broken), str(found)
    if part in ("kl", "nearest"):
        assert len(broken) == 1
    with pytest.raises(js.SolveError, match="DOES NOT HOLD"):
        found.require()


def test_a_solve_that_failed_promises_nothing(line):
    failed = dataclasses.replace(line, status=jnp.int32(js.Status.STALLED))
    found = failed.verify()
    assert not found.ok
    assert not found.checks
    assert "STALLED" in str(found)


def test_not_a_number_is_caught(line):
    maps = dataclasses.replace(line.group_maps, scale=line.group_maps.scale * jnp.nan)
    found = dataclasses.replace(line, group_maps=maps).verify()
    assert not found.ok


def test_figures_lost_in_rounding_are_said_to_be_unchecked():
    """float32 means near 1e9 have no digits left for a deviation of 1."""
    law = js.Normal(
        jnp.asarray(real() + 1e9, jnp.float32), jnp.ones((K, G), jnp.float32)
    )
    found = js.nearest_ideal(population(law)).verify()
    assert any("rounding alone" in reason for reason in found.unchecked)


def test_kept_priors_are_said_to_be_kept():
    found = js.nearest_ideal(population(LAWS[0]), priors="keep").verify()
    assert found.ok, str(found)
    assert any("not promised" in reason for reason in found.unchecked)


def test_only_on_the_host_and_one_at_a_time(line):
    with pytest.raises(ValueError, match="takes one steering, got a batch"):
        jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), line).verify()
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda steering: steering.verify().kl)(line)


@pytest.mark.parametrize("rounding", [True, False])
def test_a_covariance_that_is_none_is_excused_by_rounding_alone(vectors, rounding):
    dtype = vectors.target.priors.dtype
    below = 4 * float(jnp.finfo(dtype).eps) if rounding else 0.5
    cov = jnp.ones((K, G, D, D), dtype) - below * jnp.eye(D, dtype=dtype)
    law = js.MultivariateNormal(vectors.target.conditionals.mean, cov)
    target = dataclasses.replace(vectors.target, conditionals=law)
    found = dataclasses.replace(vectors, target=target).verify()
    missing = [check for check in found.checks if not np.isfinite(check.found)]
    hidden = [reason for reason in found.unchecked if "makes a covariance" in reason]
    assert bool(missing) is not rounding
    assert bool(hidden) is rounding
    if not rounding:
        assert not found.ok


def test_maps_whose_kind_is_lost_in_rounding_are_not_refuted():
    """Columns in units of 1e6 and 1e-6: in float32 nothing tells a pivot's maps."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(20, 2, 2, 3, 6))
    mean = rng.normal(size=(20, 2, 2, 3))[5]
    cov = (root @ root.swapaxes(-1, -2) / 6)[5]
    unit = np.array([1e6, 1.0, 1e-6])
    cells = js.MultivariateNormal(
        jnp.asarray(mean * unit, jnp.float32),
        jnp.asarray(cov * np.outer(unit, unit), jnp.float32),
    )
    pop = js.Population(jnp.full((2, 2), 0.25, jnp.float32), cells)
    found = js.nearest_ideal(pop, maps="pivot", reference=1, differentiate="none")
    assert found.converged
    report = found.verify()
    assert report.ok
    assert any("nothing of the maps' kind" in line for line in report.unchecked)
