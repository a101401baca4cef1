"""Whether a file fits in memory, asked before it is read."""

from __future__ import annotations

import pathlib

#: What to do with a file that is too large, wherever that is noticed.
STREAM_HINT = (
    "'jaxsteer stream steer' and 'jaxsteer stream apply' take files of any size in "
    "constant memory; or take a sample of the rows or fewer columns"
)
# Bytes of memory for a byte of a file. Of text, kept beside its values, 27 were
# measured: no file is refused that would have fitted.
_TEXT, _PARQUET = 20, 10


def is_parquet(path: pathlib.Path) -> bool:
    """Tell whether a file is Parquet, by its ending."""
    # As jaxsteer._types has it, which loads JAX: too slow to complete an option.
    return path.suffix in (".parquet", ".pq")


def check_memory(path: pathlib.Path) -> None:
    """Raise if the rows of a file cannot be held.

    Raises:
        MemoryError: If they take more than is free; nothing is said where the system
            does not tell how much is.
    """
    free = _available()
    if free is None or not path.is_file():
        return
    size = path.stat().st_size
    needed = size * (_PARQUET if is_parquet(path) else _TEXT)
    if needed > free:
        raise MemoryError(
            f"{path.name} has {size / 2**30:.2f} GB, for which {needed / 2**30:.1f} GB "
            f"of memory are needed and {free / 2**30:.1f} are free"
        )


def _available() -> int | None:
    """Bytes of memory that programs can have without swapping, None if not told."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    found = values.get("MemAvailable")
    return None if found is None else int(found.split()[0]) * 1024
