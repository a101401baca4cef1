"""Every family says which parameters are a law, and no other values pass."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer import families
from jaxsteer.families import check_parameters, parameters_valid, registered
from jaxsteer.maps import BoxCox

DOMAINS = {
    cls: traits.domain
    for cls, traits in registered().items()
    if traits.domain and cls.__module__.startswith("jaxsteer.")
}
ONE, TWO = np.ones((2, 2)), np.full((2, 2), 2.0)
EYE = np.broadcast_to(np.eye(2), (2, 2, 2, 2))
VECTOR = np.ones((2, 2, 2))
LAWS = {cls: {field: ONE for field in domain} for cls, domain in DOMAINS.items()} | {
    families.Categorical: {"logits": VECTOR},
    families.DiagonalNormal: {"loc": VECTOR, "scale": VECTOR},
    families.Dirichlet: {"concentration": VECTOR},
    families.LowRankNormal: {
        "mean": VECTOR,
        "factor": VECTOR[..., None],
        "diagonal": VECTOR,
    },
    families.MultivariateNormal: {"mean": VECTOR, "cov": EYE},
}
MADE_OF_OTHERS = {"Product", "TransformedNormal", "LogNormal", "MultivariateLogNormal"}
BAD = {
    "real": [np.nan, np.inf],
    "positive": [0.0, -1.0, np.nan, np.inf],
    "not_negative": [-1.0, np.nan, np.inf],
    "covariance": [-1.0, np.nan, 0.0],
}


def test_every_family_has_a_domain():
    laws = {
        name
        for name, value in vars(families).items()
        if isinstance(value, type) and hasattr(value, "kl") and name[0] != "_"
    }
    assert laws - {cls.__name__ for cls in DOMAINS} - {"SharedBijection", "Family"} == (
        MADE_OF_OTHERS
    )


@pytest.mark.parametrize("cls", DOMAINS, ids=lambda cls: cls.__name__)
def test_parameters_in_and_out_of_their_domain(cls):
    good = cls(**LAWS[cls])
    assert bool(parameters_valid(good))
    check_parameters(good)
    for field, rule in DOMAINS[cls].items():
        for value in BAD[rule]:
            bad = np.array(LAWS[cls][field])
            bad[(0, 1) + (0,) * (bad.ndim - 2)] = value
            law = cls(**{**LAWS[cls], field: bad})
            assert not bool(parameters_valid(law)), (field, value)
            with pytest.raises(ValueError, match=rf"{cls.__name__}\.{field} must be"):
                check_parameters(law)


def test_the_edge_of_a_domain():
    assert bool(parameters_valid(families.Poisson(0.0)))
    assert bool(parameters_valid(families.VonMises(0.0, 0.0)))
    assert not bool(parameters_valid(families.Exponential(0.0)))
    tilted = np.array([[1.0, 2.0], [2.0, 1.0]])
    assert not bool(parameters_valid(families.MultivariateNormal(np.zeros(2), tilted)))
    bent = np.array([[1.0, 0.5], [-0.5, 1.0]])
    assert not bool(parameters_valid(families.MultivariateNormal(np.zeros(2), bent)))
    for scale in (1e-15, 1.0, 1e15):
        near = scale * np.array([[1.0, 1.0], [1.0, 1.0]])
        assert bool(parameters_valid(families.MultivariateNormal(np.zeros(2), near)))


def test_laws_made_of_others():
    normal = families.Normal(ONE, ONE)
    bad = families.Normal(ONE, -ONE)
    for law in (
        families.LogNormal(ONE, -ONE),
        families.TransformedNormal(bad, BoxCox(0.5)),
        families.TransformedNormal(normal, BoxCox(np.nan)),
        families.Product((normal, families.Poisson(-ONE))),
        families.Product((normal, families.Product((bad,)))),
    ):
        assert not bool(parameters_valid(law))
    assert bool(parameters_valid(families.TransformedNormal(normal, BoxCox(0.5))))
    with pytest.raises(
        ValueError, match=r"pop: the parameter blocks\[1\]\.Poisson\.rate .*at least 0"
    ):
        check_parameters(families.Product((normal, families.Poisson(-ONE))), "pop")


def test_under_jit_and_vmap_it_is_data():
    rates = jnp.array([1.0, -1.0, 0.0])
    found = jax.jit(jax.vmap(lambda r: parameters_valid(families.Exponential(r))))
    assert found(rates).tolist() == [True, False, False]

    def checked(rate):
        check_parameters(families.Exponential(rate))
        return rate

    assert float(jax.jit(checked)(-1.0)) == -1.0
