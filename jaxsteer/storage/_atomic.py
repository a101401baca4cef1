"""The one writer of files: the whole file under its name, or the old one."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import stat
from collections.abc import Generator
from typing import BinaryIO

from jaxsteer._types import PathLike

try:
    import fcntl
except ModuleNotFoundError:  # pragma: no cover - Windows has no such locks
    fcntl = None

_ENDING = ".partial"
# Most systems allow 255 bytes a name, and a letter takes up to four.
_SHOWN = 40


@contextlib.contextmanager
def atomic_file(path: PathLike) -> Generator[BinaryIO]:
    """Open a binary file that takes its name only when it is whole.

    What is written goes into a file of a random name in the same folder. On success it
    is flushed to the disk and renamed, so readers see the old or the new whole file and
    savers of one path never meet; on any exception, Ctrl-C too, it is removed and the
    old file stays. A process that is killed outright leaves its unnamed part behind,
    which the next write of the same path removes: parts are locked by their writers, so
    only abandoned ones go.

    A link is followed, and a file that was there keeps its permissions; a new one gets
    those of any new file.

    Args:
        path: The file.

    Yields:
        The file to write to.

    Raises:
        FileNotFoundError: If the folder does not exist.
        IsADirectoryError: If `path` is a folder.

    Example:
        >>> import pathlib, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name, "notes.txt")
        >>> with atomic_file(path) as file:
        ...     _ = file.write(b"whole")
        ...     path.exists()
        False
        >>> path.read_bytes()
        b'whole'
    """
    target = pathlib.Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder {target.parent} of {path} does not exist.")
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file.")
    _remove_abandoned(target)
    part, number = _create(target)
    try:
        # The number stays open when a writer closes its file, as some do.
        with open(number, "wb", closefd=False) as file:
            yield file
        os.fsync(number)
        if os.name == "nt":  # pragma: no cover - Windows renames no open file
            os.close(number)
            number = -1
        part.replace(target)
        _sync_folder(target.parent)
    finally:
        # After a rename there is none of that name.
        part.unlink(missing_ok=True)
        if number >= 0:
            os.close(number)


def write_bytes(path: PathLike, data: bytes) -> None:
    """Write a whole file at once; see :func:`atomic_file`."""
    with atomic_file(path) as file:
        file.write(data)


def write_text(path: PathLike, text: str) -> None:
    """Write a whole file of UTF-8 text at once; see :func:`atomic_file`."""
    write_bytes(path, text.encode("utf-8"))


def _create(target: pathlib.Path) -> tuple[pathlib.Path, int]:
    """Open a new locked file beside the target; return its name and number."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        part = target.parent / f"{_prefix(target)}{secrets.token_hex(8)}{_ENDING}"
        number = os.open(part, flags, 0o666)
        _lock(number, wait=True)
        # Between the two lines above another writer may have taken it for abandoned.
        if _is_same(part, number):
            break
        os.close(number)
    if target.exists():
        with contextlib.suppress(OSError):
            os.chmod(part, stat.S_IMODE(target.stat().st_mode))
    return part, number


def _remove_abandoned(target: pathlib.Path) -> None:
    if fcntl is None:  # pragma: no cover
        return
    prefix = _prefix(target)
    with os.scandir(target.parent) as entries:
        parts = [
            entry.path
            for entry in entries
            if entry.name.startswith(prefix) and entry.name.endswith(_ENDING)
        ]
    for part in parts:
        with contextlib.suppress(OSError):
            number = os.open(part, os.O_RDWR)
            try:
                if _lock(number, wait=False):
                    os.unlink(part)
            finally:
                os.close(number)


def _prefix(target: pathlib.Path) -> str:
    return f".{target.name[:_SHOWN]}."


def _lock(number: int, *, wait: bool) -> bool:
    """Lock an open file; False where another has it or the disk knows no locks."""
    if fcntl is None:  # pragma: no cover
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _is_same(part: pathlib.Path, number: int) -> bool:
    try:
        return os.path.samestat(os.stat(part), os.fstat(number))
    except FileNotFoundError:
        return False


def _sync_folder(folder: pathlib.Path) -> None:
    """Make a rename last through a loss of power, where the system can."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
