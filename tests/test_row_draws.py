"""Draws that belong to a row: equal rows, one at a time, in any order and type."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import jaxsteer as js
from jaxsteer import _single_row
from jaxsteer._row_draws import (
    Draw,
    _host_words,
    _traced_words,
    _uniform,
    row_uniform,
)
from tests.channels.test_roc_channel import largest_gap, simulate

KEY = jax.random.key(3)
SCORE, LABEL, GROUP = simulate(4000, decimals=1)
IDS = np.arange(4000)


@pytest.fixture(scope="module")
def channel():
    return js.roc_channel(SCORE, LABEL, GROUP, bins=12)


def test_one_row_a_call_is_the_batch_in_any_order(channel):
    batch = np.asarray(channel.transport(SCORE, GROUP, key=KEY, draw="row", rows=IDS))
    for i in range(0, 4000, 40):
        one = slice(i, i + 1)
        alone = channel.transport(
            SCORE[one], GROUP[one], key=KEY, draw="row", rows=IDS[one]
        )
        assert isinstance(alone, jax.Array) and alone.shape == (1,)
        assert alone[0] == batch[i] and alone.dtype == batch.dtype
    order = np.random.default_rng(0).permutation(4000)
    again = channel.transport(
        SCORE[order], GROUP[order], key=KEY, draw="row", rows=IDS[order]
    )
    np.testing.assert_array_equal(again, batch[order])
    other = channel.transport(SCORE, GROUP, key=jax.random.key(4), draw="row", rows=IDS)
    assert (np.asarray(other) != batch).mean() > 0.05


def test_single_calls_are_as_fair_as_a_batch(channel):
    drawn = np.asarray(channel.transport(SCORE, GROUP, key=KEY, draw="row", rows=IDS))
    values = np.unique(drawn)
    law = np.array([
        [
            [np.mean(drawn[(a == GROUP) & (y == LABEL)] == v) for v in values]
            for y in (0, 1)
        ]
        for a in (0, 1)
    ])  # fmt: skip
    # In sample: only the noise of the draws, over some 600 rows of the smallest cell.
    assert largest_gap(law) < 0.05
    # The same key at one place gives every row one number, and gaps with it.
    fixed = channel.transport(SCORE[:1], GROUP[:1], key=KEY)
    assert fixed == channel.transport(SCORE[:1], GROUP[:1], key=KEY)


def test_equal_rows_get_equal_answers(channel):
    drawn = np.asarray(channel.transport(SCORE, GROUP, key=KEY, draw="row"))
    for a in (0, 1):
        mine = a == GROUP
        _, place = np.unique(SCORE[mine], return_inverse=True)
        for twin in range(place.max() + 1):
            assert len(np.unique(drawn[mine][place == twin])) == 1
    table = np.stack([SCORE, GROUP, IDS % 7], 1)
    by_row = channel.transport(SCORE, GROUP, key=KEY, draw="row", rows=table)
    assert (np.asarray(by_row) != drawn).any()


def test_draws_are_uniform_and_independent():
    for rows in (IDS, IDS * 1.0, np.stack([IDS // 64, IDS % 64], 1), IDS.astype(str)):
        found = np.asarray(row_uniform(KEY, rows), float)
        assert stats.kstest(found, "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 4 / np.sqrt(4000)
        assert len(np.unique(found)) > 3990
    # Bits of neighbours differ in half of the places.
    swapped = row_uniform(KEY, np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert swapped[0] != swapped[1]


def test_one_row_is_drawn_on_the_host_bit_for_bit():
    words = np.random.default_rng(0).integers(0, 2**32, (300, 6), dtype=np.uint32)
    for key in (KEY, jax.random.fold_in(KEY, 5), jax.random.key(2**31 - 1)):
        many = np.asarray(_uniform(Draw(key, words)))
        alone = [Draw(key, one[None]).alone() for one in words]
        np.testing.assert_array_equal(np.concatenate(alone), many)
        assert alone[0].dtype == many.dtype
    assert _single_row._agrees(many.dtype == np.float64)


def test_other_keys_and_traces_are_drawn_by_jax(channel, monkeypatch):
    row = {"draw": "row", "rows": IDS[:1]}
    one = (SCORE[:1], GROUP[:1])
    for key in (jax.random.key(1, impl="rbg"), jax.random.PRNGKey(3)):
        assert Draw(key, np.zeros((1, 2), np.uint32)).alone() is None
        with_others = channel.transport(
            SCORE[:3], GROUP[:3], key=key, draw="row", rows=IDS[:3]
        )
        if key.dtype == np.uint32:
            assert channel.transport(*one, key=key, **row)[0] == with_others[0]
    keys = jax.random.split(KEY, 20)
    traced = jax.vmap(lambda k: channel.transport(*one, key=k, **row))(keys)
    alone = [channel.transport(*one, key=k, **row) for k in keys]
    np.testing.assert_array_equal(traced, alone)
    assert len(np.unique(alone)) > 1
    within = jax.jit(lambda: channel.transport(*one, key=keys[0], **row))()
    assert within == alone[0]
    # Where the generator is another, nothing is drawn here.
    monkeypatch.setattr(_single_row, "_agrees", lambda wide: False)
    assert Draw(KEY, np.zeros((1, 2), np.uint32)).alone() is None
    assert channel.transport(*one, key=keys[0], **row) == alone[0]


def test_an_answer_given_away_is_made_again(channel):
    ask = {"key": KEY, "draw": "row", "rows": IDS[:1]}
    first = channel.transport(SCORE[:1], GROUP[:1], **ask)
    value = float(first[0])
    first.delete()
    assert float(channel.transport(SCORE[:1], GROUP[:1], **ask)[0]) == value


def test_types_and_traces_agree():
    rng = np.random.default_rng(0)
    size = 10.0 ** rng.integers(-30, 30, 300)
    floats = np.r_[rng.normal(size=300) * size, 0, -0.0, 1].astype(np.float32)
    np.testing.assert_array_equal(
        _traced_words(jnp.asarray(floats)), _host_words(floats)
    )
    ends = [0, 1, -1, 2**31 - 1, -(2**31)]
    whole = np.r_[rng.integers(-(2**31), 2**31, 300), ends].astype(np.int32)
    np.testing.assert_array_equal(_traced_words(jnp.asarray(whole)), _host_words(whole))
    np.testing.assert_array_equal(_host_words(whole * 1.0), _host_words(whole))
    np.testing.assert_array_equal(_host_words(np.array([0.0])), [[0, 0]])
    large = np.array([2**60, 2**60 + 1])
    assert (_host_words(large)[0] != _host_words(large)[1]).any()
    traced = jax.jit(lambda v: row_uniform(KEY, v))(whole)
    np.testing.assert_array_equal(traced, row_uniform(KEY, whole))


@settings(max_examples=20)
@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=2, unique=True))
def test_different_numbers_have_different_words(pair):
    words = _host_words(np.array(pair))
    assert (words[0] == words[1]).all() == (pair[0] == pair[1])


def test_jit_draws_what_the_host_draws(channel):
    score = SCORE.astype(np.float32)
    host = channel.transport(score, GROUP, key=KEY, draw="row", rows=IDS)
    traced = jax.jit(
        lambda s, g, i: channel.transport(s, g, key=KEY, draw="row", rows=i)
    )(score, GROUP, IDS)
    np.testing.assert_array_equal(traced, host)


def test_multiclass_draws_by_row_too():
    score = np.stack([-SCORE, SCORE], 1)
    channel = js.multiclass_channel(score, LABEL, GROUP, bins=8)
    batch = channel.transport(score, GROUP, key=KEY, draw="row", rows=IDS)
    alone = channel.transport(
        score[7:8], GROUP[7:8], key=KEY, draw="row", rows=IDS[7:8]
    )
    assert alone[0] == batch[7]


def test_options_that_do_not_go_together(channel):
    with pytest.raises(ValueError, match="rows are given, but draw='key'"):
        channel.transport(SCORE, GROUP, key=KEY, rows=IDS)
    with pytest.raises(ValueError, match="draw='each' is not known"):
        channel.transport(SCORE, GROUP, key=KEY, draw="each")
    for score, group in (([np.nan], [0]), ([0.5], [7]), ([0.5, 1.0], [0])):
        one = np.array(score), np.array(group)
        with pytest.raises(ValueError, match=r"not finite|from 7 to 7|group has 1"):
            channel.transport(*one, key=KEY, draw="row")
    with pytest.raises(ValueError, match="score has 4000, rows has 3"):
        channel.transport(SCORE, GROUP, key=KEY, draw="row", rows=IDS[:3])


@pytest.mark.parametrize(
    "ids", [[7.0, np.nan], ["a", None], [[1, 2], [3, np.nan]], [[1, "a"], ["b", None]]]
)
def test_rows_without_an_id_are_refused(channel, ids):
    is_text = any(isinstance(one, str) for one in np.ravel(np.array(ids, object)))
    rows = np.array(ids, object if is_text else float)
    with pytest.raises(
        ValueError, match="rows has 1 missing entries, the first in row 1"
    ):
        channel.transport(SCORE[:2], GROUP[:2], key=KEY, draw="row", rows=rows)
