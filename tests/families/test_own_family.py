"""A family is one file: its declaration is all that the package must know of it.

The logistic laws stand here as they would in a user's own module, and go through every
part of the package that asks which family it has before it.
"""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxsteer as js
from jaxsteer.families import Family, family, fitted_by_samples
from jaxsteer.maps import DiagonalMap

NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


@family(
    domain={"loc": "real", "scale": "positive"},
    maps="location_scale",
    symmetric=True,
)
@dataclasses.dataclass(frozen=True)
class Logistic:
    """Logistic distributions; their divergence is a quadrature over quantiles."""

    loc: jax.Array
    scale: jax.Array

    @classmethod
    def from_samples(cls, x, weights=None):
        """By the first two moments."""
        weights = jnp.full(x.shape, 1 / x.shape[-1]) if weights is None else weights
        weights = weights / jnp.sum(weights, -1, keepdims=True)
        mean = jnp.sum(weights * x, -1)
        spread = jnp.sum(weights * (x - mean[..., None]) ** 2, -1)
        return cls(mean, jnp.sqrt(3 * spread) / jnp.pi)

    @property
    def mean(self):
        return self.loc

    @property
    def cov(self):
        return jnp.square(jnp.pi * self.scale) / 3

    def log_prob(self, x):
        z = (x - self.loc) / self.scale
        return -z - 2 * jax.nn.softplus(-z) - jnp.log(self.scale)

    def cdf(self, x):
        return jax.nn.sigmoid((x - self.loc) / self.scale)

    def sample(self, key, shape=()):
        noise = jax.random.logistic(key, (*shape, *jnp.shape(self.loc)))
        return self.loc + self.scale * noise

    def pushforward(self, move):
        return Logistic(move(self.loc), jnp.abs(move.scale) * self.scale)

    def transport_to(self, other):
        scale = other.scale / self.scale
        return DiagonalMap(scale, other.loc - scale * self.loc)

    def kl(self, other):
        # Substitute x = loc + scale * 40 t, t in [-1, 1], the density's bulk.
        shape = (-1,) + (1,) * jnp.ndim(self.loc + other.loc)
        x = self.loc + self.scale * 40 * jnp.asarray(NODES).reshape(shape)
        here = self.log_prob(x)
        inside = jnp.exp(here) * (here - other.log_prob(x)) * 40 * self.scale
        return jnp.sum(jnp.asarray(WEIGHTS).reshape(shape) * inside, 0)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    label, group = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
    x = rng.logistic(size=4000) * (1 + 0.5 * group) + label * (1 + group) + group
    return x, label, group


@pytest.fixture(scope="module")
def pop(rows):
    return js.fit_population(*rows, "logistic")


def test_it_is_fitted_by_name(rows, pop):
    assert isinstance(pop.conditionals, Logistic)
    assert fitted_by_samples()["logistic"] is Logistic
    assert isinstance(pop.conditionals, Family)
    x, label, group = rows
    mine = x[(label == 1) & (group == 0)]
    assert pop.conditionals.loc[1, 0] == pytest.approx(mine.mean(), rel=1e-5)


def test_its_divergence_is_found():
    p, q = Logistic(jnp.zeros(()), jnp.ones(())), Logistic(jnp.ones(()), jnp.ones(()))
    grid = np.linspace(-60, 60, 200_001)
    a, b = stats.logistic(), stats.logistic(1)
    expected = np.trapezoid(a.pdf(grid) * (a.logpdf(grid) - b.logpdf(grid)), grid)
    assert js.kl_divergence(p, q) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(TypeError, match="Logistic"):
        js.kl_divergence(p, js.Normal(0.0, 1.0))


@pytest.mark.parametrize("intervention", ["affirmative", "all_groups"])
def test_it_is_steered_to_an_ideal_population(pop, rows, intervention):
    steering = js.nearest_ideal(pop, intervention=intervention).require()
    # By its ``cdf``: the Bayes rule's rates are those of the other group.
    rates = js.bayes_rates(steering.target)
    assert np.ptp(np.asarray(rates.rates), -1).max() < 1e-3
    # No orbit of the family near it has a smaller divergence.
    best = float(steering.kl)
    target = steering.target.conditionals
    for bend in (0.97, 1.03):
        other = dataclasses.replace(target, scale=target.scale * jnp.asarray([1, bend]))
        moved = js.Population(steering.target.priors, other)
        assert float(moved.kl(pop)) > best
    x, _, group = rows
    moved = np.asarray(steering.transport(x, group))
    mine = group == int(steering.reference)
    np.testing.assert_array_equal(moved[mine], x[mine].astype(moved.dtype))
    assert (moved[~mine] != x[~mine]).mean() > 0.99


def test_parameters_out_of_its_domain_are_refused(pop):
    bad = dataclasses.replace(pop.conditionals, scale=-pop.conditionals.scale)
    steering = js.nearest_ideal(js.Population(pop.priors, bad))
    assert js.Status(int(steering.status)) is js.Status.BAD_INPUT


def test_a_declaration_names_the_parameters():
    with pytest.raises(
        ValueError, match=r"domain must name the fields of Half, \['x'\]"
    ):

        @family(domain={"y": "real"})
        @dataclasses.dataclass(frozen=True)
        class Half:
            x: float


def test_no_other_file_of_the_package_lists_the_families():
    """The newest family stands in its own file, and in the lists of exported names."""
    package = Path(js.__file__).parent
    found = subprocess.run(
        ["grep", "-rlE", r"InverseGaussian|inverse_gaussian", str(package)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    names = {str(Path(f).relative_to(package)) for f in found if f.endswith(".py")}
    assert names == {"families/_inverse_gaussian.py", "families/__init__.py"}
