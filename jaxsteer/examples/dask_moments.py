"""Moments of row files by Dask: each piece is a task, merged in the order of the pieces.

python -m jaxsteer.examples.dask_moments DATA --label y --group g --workers 2
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxsteer.examples.multi_process import parser_of, plan
from jaxsteer.streaming import MomentPass, PassState, run_with


def dask_moments(
    job: MomentPass, workers: int, *, deterministic: bool = True
) -> PassState:
    """Run a pass on a Dask cluster of this machine.

    Args:
        job: What to read.
        workers: Number of worker processes.
        deterministic: Merge in the order of the pieces, for the same bits whatever the
            number of workers; otherwise as they come in.

    Raises:
        ImportError: If Dask is not installed.
    """
    try:
        from dask.distributed import (  # pyright: ignore[reportMissingImports]
            Client,
            as_completed,
        )
    except ModuleNotFoundError as error:
        raise ImportError(
            "This example needs Dask: pip install 'dask[distributed]'."
        ) from error
    with Client(n_workers=workers, threads_per_worker=1, dashboard_address=None) as to:

        def submit(run: Callable[..., PassState], pieces: Sequence[Any]) -> Any:
            futures = to.map(run, pieces, pure=False)
            if deterministic:
                return to.gather(futures)
            return (future.result() for future in as_completed(futures))

        return run_with(job, submit, deterministic=deterministic)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the example."""
    parser = parser_of(__doc__)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(arguments)
    state = dask_moments(plan(args), args.workers)
    print(f"{state.rows:,} rows in {state.pieces} pieces; left out: {state.left_out}")


if __name__ == "__main__":
    main()
