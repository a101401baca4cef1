"""Moments and maps of a Parquet data set in several processes, with JAX's own engine.

    python -m jaxsteer.examples.multi_process DATA --label y --group g --processes 4

starts the processes on this machine; on a cluster start one a host with ``--process-id``
and ``--address`` of the first. Each reads its share of the pieces of the data set and
keeps a checkpoint; the states are merged over the processes (Gloo collectives on CPU);
the first process prints the ideality gap and writes moments and maps. When a process
dies, the others are stopped and all start again, each from its own checkpoint: no row is
counted twice and none lost.
"""

from __future__ import annotations

import argparse
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from jaxsteer.streaming import (
    MomentPass,
    PassState,
    RowEncoder,
    open_files,
    run_pass,
    table_statistics,
)

# Restarts after which something else must be wrong.
MOST_RESTARTS = 5


def plan(args: argparse.Namespace) -> MomentPass:
    """Say what is read: every process comes to the same plan from the files alone."""
    files = open_files(args.data)
    names = table_statistics(
        files, [args.label, args.group], as_values=[args.label, args.group]
    )
    features = [n for n in files.types if n not in (args.label, args.group)]
    return MomentPass(
        files=files,
        encoder=RowEncoder.as_they_are(files, features),
        label=args.label,
        label_names=names.names([args.label]),
        group=args.group,
        group_names=names.names([args.group]),
        batch_rows=args.batch_rows,
        piece_rows=args.piece_rows,
    )


def own_state(
    job: MomentPass, process: int, processes: int, folder: pathlib.Path
) -> PassState:
    """Run through every ``processes``-th piece, from the checkpoint if there is one."""
    return run_pass(
        job,
        pieces=job.pieces()[process::processes],
        checkpoint=folder / f"process-{process}-of-{processes}.safetensors",
    )


def merged_over_processes(state: PassState) -> Any:
    """Join the processes' moments by one sum over a mesh with a device of each."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from jaxsteer.moments import merge_over

    one_each = {device.process_index: device for device in jax.devices()}
    devices = np.array([one_each[i] for i in range(jax.process_count())])
    mesh = Mesh(devices, ("process",))
    along = NamedSharding(mesh, PartitionSpec("process"))

    def stack(leaf: Any) -> Any:
        own = np.asarray(leaf)[None]
        return jax.make_array_from_process_local_data(along, own)

    def join(stacked: Any) -> Any:
        own = jax.tree.map(lambda leaf: leaf[0], stacked)
        return merge_over(own, "process")

    program = jax.shard_map(
        join,
        mesh=mesh,
        in_specs=PartitionSpec("process"),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    found = jax.jit(program)(jax.tree.map(stack, state.moments))
    # The same on every process: each takes its own copy.
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), found)


def work(args: argparse.Namespace) -> None:
    """Do what one process does."""
    import jax

    # The default on CPU of newer JAX; without any, processes do not see each other.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(args.address, args.processes, args.process_id)
    from jaxsteer import storage
    from jaxsteer.ideal import nearest_ideal
    from jaxsteer.moments import finish

    job = plan(args)
    state = own_state(job, args.process_id, args.processes, args.folder)
    moments = merged_over_processes(state)
    if args.process_id == 0:
        moments = jax.tree.map(jax.numpy.asarray, moments)
        steering = nearest_ideal(finish(moments), maps="shared_covariance").require()
        storage.save(
            args.folder / "result.safetensors",
            {"moments": moments, "maps": steering.group_maps},
            metadata={"groups": list(job.group_names), "labels": list(job.label_names)},
        )
        print(
            f"{float(moments.mass.sum()):,.0f} rows in {args.processes} processes: "
            f"{float(steering.kl):.6g} nats from ideal"
        )
    jax.distributed.shutdown()


def supervise(args: argparse.Namespace, command: Sequence[str]) -> None:
    """Start the processes, and all of them again when one dies."""
    for attempt in range(MOST_RESTARTS + 1):
        address = f"127.0.0.1:{_free_port()}"
        workers = [
            subprocess.Popen(
                [*command, "--process-id", str(process), "--address", address],
                stdout=None if process == 0 else subprocess.DEVNULL,
                stderr=subprocess.DEVNULL if attempt < MOST_RESTARTS else None,
            )
            for process in range(args.processes)
        ]
        (args.folder / "pids").write_text("\n".join(str(w.pid) for w in workers))
        try:
            if _all_ended(workers):
                return
        finally:
            for worker in workers:
                if worker.poll() is None:
                    worker.kill()
                worker.wait()
        print(f"a process died; start {attempt + 2} from the checkpoints", flush=True)
    raise SystemExit(f"given up after {MOST_RESTARTS} restarts")


def _all_ended(workers: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Wait until all have ended well, or one has not."""
    while True:
        codes = [worker.poll() for worker in workers]
        if any(code not in (None, 0) for code in codes):
            return False
        if all(code == 0 for code in codes):
            return True
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def parser_of(text: str | None) -> argparse.ArgumentParser:
    """Return the options that such examples share."""
    parser = argparse.ArgumentParser(description=(text or "").split("\n")[0])
    parser.add_argument("data", help="a Parquet file or a folder of them")
    parser.add_argument("--label", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--batch-rows", type=int, default=16_384)
    parser.add_argument("--piece-rows", type=int, default=262_144)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the example."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = parser_of(__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("moments"))
    parser.add_argument("--process-id", type=int, help="of a process that is started")
    parser.add_argument("--address", help="host:port of the first process")
    args = parser.parse_args(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.process_id is None:
        module = "jaxsteer.examples.multi_process"
        supervise(args, [sys.executable, "-m", module, *arguments])
    else:
        work(args)


if __name__ == "__main__":
    main()
