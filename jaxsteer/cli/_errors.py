"""Errors of a command as one line and an exit code."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Generator
from typing import Any

import typer

from jaxsteer.cli import _signals
from jaxsteer.cli._memory import STREAM_HINT

#: The machine: no space, no memory, no permission, a package that is not there.
MACHINE = 1
#: The command line is wrong, whatever the files hold.
USAGE = 2
#: A file is not there, cannot be read, or holds what cannot be used.
DATA = 3
#: No answer was found that passes its own check.
SOLVER = 4
#: The audit found more than ``--fail-if`` allows.
GATE = 5
#: Who read the output went away; as a shell says it of SIGPIPE.
PIPE = 141

_INTERRUPTED = "interrupted; every file is the old or the new one, whole."


class UsageError(ValueError):
    """The command line is wrong."""


class GateError(Exception):
    """An audit found what ``--fail-if`` names."""


class OutputClosed(Exception):
    """Nobody reads standard output any more."""


class OutputError(OSError):
    """Standard output cannot be written."""


@contextlib.contextmanager
def as_usage() -> Generator[None]:
    """Say of a refused option that the command line is wrong, not a file."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error


def friendly(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors into one line and an exit code, without a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        _signals.forget()
        try:
            command(*args, **kwargs)
            _signals.check_interrupted()
        except KeyboardInterrupt:
            code = _signals.exit_code()
            _complain(_INTERRUPTED)
            raise typer.Exit(code) from None
        except OutputClosed:
            _forget_stdout()
            raise typer.Exit(PIPE) from None
        except Exception as error:
            # Some libraries turn an interrupt into an error of their own.
            interrupted = _signals.was_interrupted()
            code = _signals.exit_code() if interrupted else _code(error)
            if code is None:
                raise
            _complain(_INTERRUPTED if interrupted else _message(error))
            raise typer.Exit(code) from None

    return run


def _code(error: Exception) -> int | None:
    """Return the exit code of an error, None for a fault of the program itself."""
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, GateError):
        return GATE
    # Its module is loaded if such an error exists; loading it here takes seconds.
    solvers = sys.modules.get("jaxsteer.solvers")
    if solvers is not None and isinstance(error, solvers.SolveError):
        return SOLVER
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return DATA
    if isinstance(error, MemoryError | OSError | ImportError):
        return MACHINE
    if "RESOURCE_EXHAUSTED" in str(error):
        return MACHINE
    if isinstance(error, ValueError | NotImplementedError):
        return DATA
    return None


def _message(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        reason = f" ({text[:200]})" if text else ""
        return (
            f"the memory of this machine is too small for this file{reason}; "
            f"{STREAM_HINT}."
        )
    return text or type(error).__name__


def _complain(message: str) -> None:
    # Standard error may be closed too; the exit code tells.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(f"error: {message}", file=sys.stderr, flush=True)


def _forget_stdout() -> None:
    """Let the interpreter end without flushing into a closed pipe."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
