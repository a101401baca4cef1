"""Ctrl-C and requests to end: raised at once, and not forgotten if that is caught."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Generator
from typing import Any

_received: list[int] = []
_loading: list[bool] = []


@contextlib.contextmanager
def loading() -> Generator[None]:
    """End at once on a signal in here, while packages are loaded and no file is open.

    Extension modules turn an exception in their first lines into errors of their own,
    tracebacks and all.
    """
    _loading.append(True)
    try:
        yield
    finally:
        _loading.pop()


def install() -> None:
    """Turn Ctrl-C, SIGTERM and SIGHUP into `KeyboardInterrupt`, which cleans up."""
    if threading.current_thread() is not threading.main_thread():
        return
    sys.unraisablehook = _say_unraisable
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Who starts a program with a signal ignored (nohup) wants it ignored.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            with contextlib.suppress(ValueError, OSError):
                signal.signal(number, _raise)


def finish() -> None:
    """Let nothing raise any more: all is written, and the interpreter cleans up."""
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is _raise:
                signal.signal(number, signal.SIG_IGN)


def check_interrupted() -> None:
    """Raise if a signal came that a library's callback has swallowed."""
    if _received:
        raise KeyboardInterrupt


def was_interrupted() -> bool:
    """Tell whether a signal came."""
    return bool(_received)


def exit_code() -> int:
    """Return 128 and the signal's number, as shells do: 130 for Ctrl-C."""
    return 128 + (_received[-1] if _received else signal.SIGINT)


def forget() -> None:
    """Start anew, for a second command in one process."""
    _received.clear()


def _say_unraisable(found: Any) -> None:
    """Be silent about an interrupt that came inside a callback: it is not forgotten."""
    if not (_received and isinstance(found.exc_value, KeyboardInterrupt)):
        sys.__unraisablehook__(found)


def _raise(number: int, frame: Any) -> None:
    _received.append(number)
    if _loading:
        with contextlib.suppress(OSError):
            os.write(2, b"error: interrupted; nothing was written.\n")
        os._exit(exit_code())
    raise KeyboardInterrupt
