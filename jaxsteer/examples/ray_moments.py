"""Moments of row files by Ray: each piece is a task, merged in the order of the pieces.

python -m jaxsteer.examples.ray_moments DATA --label y --group g --workers 2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxsteer.examples.multi_process import parser_of, plan
from jaxsteer.streaming import MomentPass, PassState, run_with


def ray_moments(
    job: MomentPass, workers: int, *, deterministic: bool = True
) -> PassState:
    """Run a pass on a Ray cluster of this machine.

    Args:
        job: What to read.
        workers: Number of worker processes.
        deterministic: Merge in the order of the pieces, for the same bits whatever the
            number of workers; otherwise as they come in.

    Raises:
        ImportError: If Ray is not installed.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ImportError("This example needs Ray: pip install ray.") from error
    ray.init(num_cpus=workers, include_dashboard=False)
    try:

        def submit(run: Callable[..., PassState], pieces: Sequence[Any]) -> Any:
            # Ray takes functions, and `run` is a method.
            task = ray.remote(lambda piece: run(piece))
            tasks = [task.remote(piece) for piece in pieces]
            return ray.get(tasks) if deterministic else as_they_come(tasks)

        def as_they_come(tasks: list[Any]) -> Iterator[PassState]:
            while tasks:
                done, tasks = ray.wait(tasks)
                yield from ray.get(done)

        return run_with(job, submit, deterministic=deterministic)
    finally:
        ray.shutdown()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the example."""
    parser = parser_of(__doc__)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(arguments)
    state = ray_moments(plan(args), args.workers)
    print(f"{state.rows:,} rows in {state.pieces} pieces; left out: {state.left_out}")


if __name__ == "__main__":
    main()
