"""The structure of a registered dataclass names its class."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jaxsteer import families
from jaxsteer._pytrees import register_dataclass

LOCATION = ("Laplace", "Gumbel", "VonMises")
SHAPE = ("Gamma", "InverseGamma", "Weibull", "Pareto", "Beta")


def new_class(number):
    @register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Law:
        loc: object
        scale: object

        def number(self):
            return number

    return Law


def test_a_jitted_function_tells_classes_of_one_shape_apart():
    for _ in range(10):
        fn = jax.jit(lambda law: jnp.asarray(law.number()))
        for number in range(8):
            assert fn(new_class(number)(jnp.ones(()), jnp.ones(()))) == number


@pytest.mark.parametrize("names", [LOCATION, SHAPE], ids=["loc", "shape"])
def test_families_have_structures_of_their_own(names):
    structures = [jax.tree.structure(getattr(families, n)(1.0, 2.0)) for n in names]
    for i, first in enumerate(structures):
        assert [first == second for second in structures].index(True) == i
        assert sum(first == second for second in structures) == 1


def test_static_fields_are_part_of_the_structure():
    @register_dataclass
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Box:
        size: float
        unit: str = dataclasses.field(metadata={"static": True})

    box = Box(size=2.0, unit="m")
    assert jax.tree.map(lambda v: 2 * v, box) == Box(size=4.0, unit="m")
    assert jax.tree.structure(box) != jax.tree.structure(Box(size=2.0, unit="s"))
    path, leaf = jax.tree_util.tree_flatten_with_path(box)[0][0]
    assert (jax.tree_util.keystr(path), leaf) == (".size", 2.0)
