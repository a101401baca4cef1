"""Long runs in pieces: what was measured is kept, and a run ends when its time is over."""

from __future__ import annotations

import hashlib
import pathlib
import pickle
import time
from collections.abc import Callable
from typing import Any


class Clock:
    """A time after which nothing new is begun."""

    def __init__(self, seconds: float = float("inf")):
        self._end = time.monotonic() + seconds

    def stop_if_over(self) -> None:
        """End the program where its time is over."""
        if time.monotonic() > self._end:
            raise SystemExit("The time is over: give the same command again to go on.")


class Kept:
    """Results by name, in a folder of this user's own (they are pickles).

    Args:
        folder: None keeps nothing.
        about: What all results depend on: another text, other results.
        clock: Asked before anything is computed.
    """

    def __init__(self, folder: pathlib.Path | None, about: str, clock: Clock):
        self._folder, self._about, self._clock = folder, about, clock

    def __call__(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return what `compute` returns, or returned in an earlier run."""
        path = None
        if self._folder is not None:
            key = hashlib.sha256(f"{self._about}\n{name}".encode()).hexdigest()[:32]
            path = self._folder / f"{key}.pickle"
            if path.exists():
                return pickle.loads(path.read_bytes())
        self._clock.stop_if_over()
        found = compute()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".part").write_bytes(pickle.dumps(found))
            path.with_suffix(".part").replace(path)
        return found
