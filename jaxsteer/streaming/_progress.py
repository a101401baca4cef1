"""How far a pass has come, and how long it will take."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """The state of a pass.

    Attributes:
        task: What is being done.
        rows: Rows read so far, those of an earlier run that was resumed included.
        total: Rows in all, None where the files do not say.
        seconds: Since this run started.
        rows_per_second: Of this run.
        seconds_left: At this rate, None where `total` is.
    """

    task: str
    rows: int
    total: int | None
    seconds: float
    rows_per_second: float
    seconds_left: float | None

    def __str__(self) -> str:
        """One line, as a terminal shows it."""
        share = "" if not self.total else f" of {self.total:,}"
        left = "" if self.seconds_left is None else f", {self.seconds_left:.0f} s left"
        return (
            f"{self.task}: {self.rows:,}{share} rows, {self.rows_per_second:,.0f} "
            f"rows/s{left}"
        )


Tell = Callable[[Progress], None]


def print_progress(progress: Progress) -> None:
    """Write the progress over the last line of the terminal (standard error)."""
    sys.stderr.write(f"\r{progress}\x1b[K")
    if progress.total is not None and progress.rows >= progress.total:
        sys.stderr.write("\n")
    sys.stderr.flush()


class Meter:
    """Counts rows and tells about them, at most every half second."""

    def __init__(self, task: str, tell: Tell | None, total: int | None, done: int = 0):
        self.task, self.tell, self.total = task, tell, total
        self.rows = self.resumed = done
        self.start = time.monotonic()
        self.last = float("-inf")

    def add(self, rows: int) -> None:
        """Count rows."""
        self.rows += rows
        if self.tell is not None and time.monotonic() - self.last > 0.5:
            self.now()

    def now(self) -> None:
        """Tell, whenever it was last told."""
        if self.tell is None:
            return
        self.last = time.monotonic()
        seconds = max(self.last - self.start, 1e-9)
        rate = (self.rows - self.resumed) / seconds
        known = self.total is not None and rate > 0
        self.tell(
            Progress(
                task=self.task,
                rows=self.rows,
                total=self.total,
                seconds=seconds,
                rows_per_second=rate,
                seconds_left=(self.total - self.rows) / rate if known else None,  # pyright: ignore[reportOptionalOperand]
            )
        )
