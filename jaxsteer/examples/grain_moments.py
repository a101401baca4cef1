"""Moments of array records by Grain: records are read, decoded and batched there.

python -m jaxsteer.examples.grain_moments ROWS.array_record --classes 2 --groups 2
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsteer.moments import MomentState, accumulate


def encode(x: np.ndarray, label: int, group: int) -> bytes:
    """Write a row as a record: float32 features, then two int32 codes."""
    codes = np.array([label, group], np.int32)
    return np.asarray(x, np.float32).tobytes() + codes.tobytes()


def decode(record: bytes) -> tuple[np.ndarray, np.int32, np.int32]:
    """Read features, label and group of a record."""
    label, group = np.frombuffer(record[-8:], np.int32)
    return np.frombuffer(record[:-8], np.float32), label, group


def grain_moments(
    source: Any, *, n_classes: int, n_groups: int, batch_rows: int = 16_384
) -> MomentState:
    """Accumulate the records of a source that gives them by their number.

    Args:
        source: Paths of ``.array_record`` files, or anything with a length and items
            that :func:`decode` reads.
        n_classes: ``K``.
        n_groups: ``G``.
        batch_rows: Rows of one update; the last batch may be shorter.

    Returns:
        The state, the same as of the rows in memory, in their order.

    Raises:
        ImportError: If Grain is not installed.
    """
    try:
        import grain  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ImportError("This example needs Grain: pip install grain.") from error
    if isinstance(source, str | os.PathLike | list):
        paths = source if isinstance(source, list) else [source]
        source = grain.sources.ArrayRecordDataSource([str(path) for path in paths])
    rows = grain.MapDataset.source(source).map(decode)
    batches = rows.to_iter_dataset().batch(batch_rows, drop_remainder=False)
    return accumulate(batches, n_classes=n_classes, n_groups=n_groups)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", nargs="+", help="files of array records")
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--batch-rows", type=int, default=16_384)
    args = parser.parse_args(arguments)
    state = grain_moments(
        args.data,
        n_classes=args.classes,
        n_groups=args.groups,
        batch_rows=args.batch_rows,
    )
    print(f"{int(state.mass.sum()):,} rows of {state.mean.shape[1]} features")


if __name__ == "__main__":
    main()
