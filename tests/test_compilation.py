"""How many compiled programs are kept, and which one goes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxsteer._compilation import jit_for_few_calls
from jaxsteer.solvers import limit_programs

TRACED: list[int] = []


@pytest.fixture
def doubled():
    """A function of its own, and a limit of two programs."""
    TRACED.clear()
    before = limit_programs(2)

    def _doubled(x, *, times):
        TRACED.append(x.shape[0])
        return x * times

    yield jit_for_few_calls(_doubled, static_argnames=("times",))
    limit_programs(before)


def traced(fn, n, times=2):
    """How often a call with `n` numbers traced."""
    before = len(TRACED)
    assert fn(jnp.ones(n), times=times).tolist() == [times] * n
    return len(TRACED) - before


def test_the_one_used_longest_ago_goes(doubled):
    assert [traced(doubled, n) for n in (1, 2, 1)] == [1, 1, 0]
    assert traced(doubled, 3) == 1
    assert doubled.programs() == 2
    assert traced(doubled, 1) == 0  # used since
    assert traced(doubled, 2) == 1


def test_options_and_precisions_are_programs_of_their_own(doubled):
    assert traced(doubled, 1) == 1
    assert traced(doubled, 1, times=3) == 1
    assert doubled(jnp.ones(1, jnp.int32), times=3).dtype == jnp.int32
    assert doubled.programs() == 2


def test_a_lower_limit_drops_at_once(doubled):
    traced(doubled, 1)
    traced(doubled, 2)
    assert limit_programs(1) == 2
    assert doubled.programs() == 1
    assert traced(doubled, 2) == 0


def test_inside_another_program_nothing_is_counted(doubled):
    outer = jax.jit(lambda x: doubled(x, times=2))
    for n in (4, 5, 6):
        outer(jnp.ones(n))
    outer(jnp.ones(4))
    assert TRACED == [4, 5, 6]


@pytest.mark.parametrize("most", [0, -1, 1.5, "2", True, None])
def test_a_limit_is_a_number(most):
    with pytest.raises(ValueError, match="most="):
        limit_programs(most)


def test_what_jax_keeps_goes_too_where_that_is_asked_for(doubled, monkeypatch):
    cleared = []
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(len(TRACED)))
    for n in (1, 2, 3, 4, 5):
        traced(doubled, n)
    assert cleared == []  # not by itself
    limit_programs(2, clear=True)
    for n in range(6, 12):
        traced(doubled, n)
    assert len(cleared) == 4 and cleared == sorted(cleared)
    limit_programs(2)
    traced(doubled, 20)
    assert len(cleared) == 4


def test_clearing_is_a_choice():
    with pytest.raises(ValueError, match="clear="):
        limit_programs(2, clear=1)
