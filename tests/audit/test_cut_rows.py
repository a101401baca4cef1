"""Maps of transformed families stay in range, and say how often they had to."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.audit import cut_rows
from jaxsteer.maps import YeoJohnson

BASE = js.Normal(jnp.array([[0.0, -0.2], [0.1, 0.2]]), jnp.full((2, 2), 0.3))
X = jnp.array([0.0, -3.0, 1.0, 1.0, 5.0, 100.0, -5.0])
GROUP = jnp.array([0, 1, 0, 1, 1, 1, 1])


def steering(limits):
    # At power -2 the range of z ends at 1/2.
    cells = js.TransformedNormal(BASE, YeoJohnson(jnp.asarray(-2.0)), limits)
    pop = js.Population(jnp.full((2, 2), 0.25), cells)
    return js.nearest_ideal(pop, reference=0).require()


@pytest.fixture(scope="module")
def limited():
    return steering((jnp.asarray(-0.4), jnp.asarray(0.4)))


def test_targets_out_of_range_end_at_the_limit_or_the_row(limited):
    free = steering(None)
    assert np.isnan(free.transport(X, GROUP)).sum() == 2
    assert cut_rows(free, X, GROUP).tolist() == [0, 0]
    moved = np.asarray(limited.transport(X, GROUP))
    # z = 0.4 is x = sqrt(5) - 1; rows further out than that stay where they are.
    end = np.sqrt(5) - 1
    np.testing.assert_allclose(moved[3:6], [end, 5.0, 100.0], rtol=1e-3)
    np.testing.assert_allclose(
        np.delete(moved, [3, 4, 5]),
        np.delete(np.asarray(free.transport(X, GROUP)), [3, 4, 5]),
        rtol=1e-6,
    )
    assert cut_rows(limited, X, GROUP).tolist() == [0, 3]
    cellwise = limited.transport(X, GROUP, jnp.zeros(7, int))
    assert bool(jnp.isfinite(cellwise).all())


def test_limits_go_with_the_maps(limited):
    one = jax.tree.map(lambda leaf: leaf[1], limited.group_maps)
    for move in (one.inverse(), one.interpolate(0.5), one.compose(one)):
        assert move.limits == one.limits
    assert bool(one.is_cut(jnp.asarray(5.0))) and not bool(one.is_cut(jnp.asarray(0.0)))


def test_other_families_have_none():
    found = js.nearest_ideal(js.Population(jnp.full((2, 2), 0.25), BASE), reference=0)
    assert cut_rows(found, X, GROUP).tolist() == [0, 0]
    with pytest.raises(ValueError, match="group"):
        cut_rows(found, X, GROUP + 1)
