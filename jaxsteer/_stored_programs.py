"""Compiled programs on disk, beside JAX's persistent cache: not even traced again.

JAX's cache spares the compilation, at the price of tracing and lowering the program to
find its name. What stands here is found by what a program is made from, see
:mod:`jaxsteer._program_keys`, and is there only where the user has given JAX a folder,
and not switched this off. A file that is damaged, of another program or not readable
counts as none.

XLA's executables are code: whoever can write to the folder can run code in processes
that read it. So it is for JAX's own cache, which asks for the same trust.
"""

from __future__ import annotations

import functools
import os
import pickle
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.serialize_executable import deserialize_and_load, serialize

from jaxsteer._program_keys import program_name
from jaxsteer._stages import Stage, Staged
from jaxsteer.linalg import cholesky
from jaxsteer.storage._atomic import write_bytes
from jaxsteer.storage._hash import bytes_hash

SWITCH = "JAXSTEER_STORED_PROGRAMS"
MOST = 256  # files, of some hundred kilobytes each; the one used longest ago goes
_FORMAT = b"jaxsteer program 1\n"
_DIGEST = 64  # hexadecimal digits
_ENDING = ".program"
# Where tracing is watched, there is to be a trace.
_WATCHED = ("enable_checks", "check_tracer_leaks", "dump_ir_to")


def setting(name: str) -> Any:
    """One of JAX's; None where this release has none of that name."""
    return getattr(jax.config, f"jax_{name}", None)


def folder() -> Path | None:
    """Where programs are kept; None where none are to be."""
    where = setting("compilation_cache_dir")
    if not where or os.environ.get(SWITCH) == "0" or "://" in str(where):
        return None
    wanted = setting("enable_compilation_cache") and setting(
        "compilation_cache_max_size"
    )
    return Path(where, "jaxsteer") if wanted else None


def can_be_stored(leaves: Sequence[Any]) -> bool:
    """Whether a call with these arguments may run a stored program, as a first look says.

    A program on disk is of one processor, to which no argument is bound.
    """
    if folder() is None or any(map(setting, _WATCHED)):
        return False
    return not any(isinstance(leaf, jax.Array) and leaf.committed for leaf in leaves)


class StoredProgram(NamedTuple):
    """A program's place on disk.

    Attributes:
        folder: Of all of them.
        name: Of the program.
    """

    folder: Path
    name: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / f"{self.name}{_ENDING}"

    def load(self) -> Staged | None:
        """Read the program; None where there is none that can be read."""
        try:
            content = self.path.read_bytes()
            start = len(_FORMAT) + _DIGEST
            head, body = content[:start], content[start:]
            # What is damaged may crash XLA, or worse: it must not come there.
            if head != _FORMAT + _checksum(self.name, body):
                return None
            found = _unpacked(zlib.decompress(body))
        except Exception:  # of XLA and pickle, which name none, and of the disk
            return None
        with suppress(OSError):
            os.utime(self.path)
        return found

    def save(self, program: Staged) -> None:
        """Write a program that was compiled just now; nothing happens where that fails."""
        try:
            body = zlib.compress(_packed(program), 1)
            if len(body) < (setting("persistent_cache_min_entry_size_bytes") or 0):
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            head = _FORMAT + _checksum(self.name, body)
            write_bytes(self.path, head + body)
            _remove_oldest(self.folder)
        except Exception:  # of XLA and pickle, which name none, and of the disk
            return

    def drop(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self.path.unlink()


def stored_program(
    fn: Any, static: Mapping[str, Any], tree: Any, leaves: Sequence[Any], *how: Any
) -> StoredProgram | None:
    """The place of a program, see :func:`jaxsteer._program_keys.program_name`.

    None where it has no place, or no name: nothing that is amiss with these may fail a
    call, which takes its usual way then.
    """
    where = folder()
    if where is None:
        return None
    try:
        return StoredProgram(where, program_name(fn, static, tree, leaves, *how))
    except Exception:  # Unnamed, or of files that are just being replaced
        return None


def _checksum(name: str, body: bytes) -> bytes:
    return bytes_hash(name.encode() + body).encode()


def _packed(program: Staged) -> bytes:
    parts, calls = [], False
    for stage in program.stages:
        code, _, results = serialize(stage.run)
        parts.append((code, stage.takes, stage.gives, stage.last, results.num_leaves))
        calls |= "custom-call" in (stage.run.as_text() or "custom-call")
    return pickle.dumps((program.size, program.tree, parts, calls))


def _unpacked(body: bytes) -> Staged:
    size, tree, parts, calls = pickle.loads(body)
    if calls:
        _prepare_lapack()
    stages = []
    for code, takes, gives, last, results in parts:
        given = jax.tree.structure(((0,) * len(takes), {}))
        run = deserialize_and_load(code, given, jax.tree.structure([0] * results))
        stages.append(Stage(run, takes, gives, last))
    return Staged(stages, size, tree)


@functools.cache
def _prepare_lapack() -> None:
    """Let jaxlib find LAPACK, which it does whenever a call of it is lowered.

    A program that is not lowered in this process would jump to nowhere (jax-ml/jax,
    issue 28908).
    """
    jax.jit(cholesky).lower(jax.ShapeDtypeStruct((1, 1), jnp.float32))


def _remove_oldest(place: Path) -> None:
    """Keep to the number of files, and to the size that JAX's cache may have."""
    files = []
    for path in place.glob(f"*{_ENDING}"):
        with suppress(OSError):  # another process has removed it
            facts = path.stat()
            files.append((facts.st_mtime_ns, facts.st_size, path))
    files.sort(reverse=True)
    most, total = setting("compilation_cache_max_size"), 0
    for i, (_, size, path) in enumerate(files):
        total += size
        if i >= MOST or 0 <= most < total:
            with suppress(OSError):
                path.unlink()
