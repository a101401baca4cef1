"""Grain gives the moments of the rows in memory."""

from __future__ import annotations

import sys

import jax
import numpy as np
import pytest

from jaxsteer.examples.grain_moments import decode, encode, grain_moments, main
from jaxsteer.moments import accumulate

N, BATCH = 150, 64
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype(np.float32)
LABEL, GROUP = RNG.integers(0, 2, (2, N))
RECORDS = [encode(*row) for row in zip(X, LABEL, GROUP, strict=True)]
SIZES = {"n_classes": 2, "n_groups": 2}


def test_a_record_holds_a_row():
    x, label, group = decode(RECORDS[5])
    np.testing.assert_array_equal(x, X[5])
    assert (label, group) == (LABEL[5], GROUP[5])


@pytest.mark.parametrize("kind", ["in memory", "array records"])
def test_the_moments_of_the_rows(kind, tmp_path, capsys):
    pytest.importorskip("grain", reason="Grain is not installed")
    source = RECORDS
    if kind == "array records":
        module = pytest.importorskip(
            "array_record.python.array_record_module",
            reason="array records are not installed",
        )
        source = tmp_path / "rows.array_record"
        writer = module.ArrayRecordWriter(str(source), "group_size:1")
        for record in RECORDS:
            writer.write(record)
        writer.close()
    else:

        class Records:
            def __len__(self):
                return N

            def __getitem__(self, place):
                return RECORDS[place]

        source = Records()
    state = grain_moments(source, batch_rows=BATCH, **SIZES)
    slices = (slice(i, i + BATCH) for i in range(0, N, BATCH))
    alone = accumulate(((X[s], LABEL[s], GROUP[s]) for s in slices), **SIZES)
    for one, other in zip(*map(jax.tree.leaves, (state, alone)), strict=True):
        np.testing.assert_array_equal(one, other)
    if kind == "array records":
        main([str(source), "--batch-rows", str(BATCH)])
        assert "150 rows of 3 features" in capsys.readouterr().out


def test_without_grain_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ImportError, match="needs Grain: pip install grain"):
        grain_moments(RECORDS, **SIZES)
