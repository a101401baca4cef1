"""Row files for the tests of streams, with one compiled program for all of them."""

from __future__ import annotations

import jax
import numpy as np
import pytest

WHY = "row files are read by pyarrow"
pa = pytest.importorskip("pyarrow", reason=WHY)
csv = pytest.importorskip("pyarrow.csv", reason=WHY)
parquet = pytest.importorskip("pyarrow.parquet", reason=WHY)

BATCH, PIECE = 64, 128
LABELS, GROUPS = ("no", "yes"), ("f", "m")


def numbers(n=700, seed=0):
    """Rows of numbers only: two features, a label and a group."""
    rng = np.random.default_rng(seed)
    label, group = rng.integers(0, 2, n), rng.integers(0, 2, n)
    x = rng.normal(size=(n, 2)) + label[:, None] * (1 + group[:, None])
    return pa.table(
        {
            "a": x[:, 0],
            "b": x[:, 1] * 3 + 50,
            "y": np.array(LABELS)[label].tolist(),
            "g": np.array(GROUPS)[group].tolist(),
        }
    )


def write(table, path):
    """Write a table as its ending says."""
    if str(path).endswith(".csv"):
        csv.write_csv(table, path)
    else:
        parquet.write_table(table, path, row_group_size=100, write_page_checksum=True)
    return path


def bits(state):
    """The moments as bytes."""
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state.moments)]
