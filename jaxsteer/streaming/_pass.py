"""One pass over row files into moments: in pieces, in a fixed order, resumable."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxsteer import storage
from jaxsteer._errors import check_choice
from jaxsteer._types import PathLike
from jaxsteer.moments import MomentState, init, merge, update
from jaxsteer.moments._state import SCATTERS
from jaxsteer.streaming._encoder import RowEncoder, codes_of, is_wrong
from jaxsteer.streaming._files import Piece, RowFiles
from jaxsteer.streaming._progress import Meter, Tell
from jaxsteer.streaming._statistics import numbers_of

# Why a row does not count.
REASONS: tuple[str, ...] = ("label", "group", "weight", "features")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PassState:
    """What a pass has seen.

    Attributes:
        moments: Of the rows that count.
        rows: Rows read, those left out included.
        left_out: Rows left out, by reason: an unknown or missing "label" or "group", a
            "weight" that is missing or negative, "features" that are not finite. A row
            counts for the first reason that holds.
        pieces: Number of pieces done.
    """

    moments: MomentState
    rows: int
    left_out: dict[str, int]
    pieces: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class MomentPass:
    """What to read and what to make of it; plain data, which may go to any process.

    The rows are cut into pieces at places that depend on the files and `piece_rows`
    only. Each piece is accumulated from nothing, by one compiled program, and pieces
    are merged in their order: so the moments are the same bits whoever computes which
    piece, and wherever a pass was cut short and resumed. (On machines of one kind: XLA
    may order sums otherwise on another processor or with another number of threads.)

    Attributes:
        files: From :func:`open_files`.
        encoder: From :func:`row_encoder`, or :meth:`RowEncoder.as_they_are`.
        label: Column of the label.
        label_names: Its values, as text, in the order of their codes.
        group: Column of the group, or None for one group.
        group_names: Its values, likewise.
        weight: Column of sample weights, or None.
        scatter: See :func:`jaxsteer.moments.init`.
        batch_rows: Rows of one update.
        piece_rows: Rows of a piece, a multiple of `batch_rows`.
    """

    files: RowFiles
    encoder: RowEncoder
    label: str
    label_names: tuple[str, ...]
    group: str | None = None
    group_names: tuple[str, ...] = ("all",)
    weight: str | None = None
    scatter: str = "cell"
    batch_rows: int = 16_384
    piece_rows: int = 262_144

    def check(self) -> None:
        """Raise if columns are missing or sizes do not fit."""
        check_choice("scatter", self.scatter, SCATTERS)
        self.files.check_columns(self.columns)
        if self.batch_rows < 1 or self.piece_rows % self.batch_rows:
            raise ValueError(
                f"piece_rows={self.piece_rows} must be a multiple of "
                f"batch_rows={self.batch_rows}, which must be positive."
            )

    @property
    def columns(self) -> list[str]:
        """The columns that are read, each once."""
        others = [self.label, self.group, self.weight]
        return list(dict.fromkeys([*self.encoder.columns, *filter(None, others)]))

    def pieces(self) -> list[Piece]:
        """Return the pieces that the whole pass consists of, in order."""
        return self.files.pieces(self.piece_rows)

    def start(self) -> PassState:
        """Return the state of no rows."""
        empty = init(
            len(self.encoder.names),
            n_classes=len(self.label_names),
            n_groups=len(self.group_names),
            scatter=self.scatter,
        )
        none = dict.fromkeys(REASONS, 0)
        return PassState(moments=empty, rows=0, left_out=none, pieces=0)

    def run_piece(self, piece: Piece) -> PassState:
        """Accumulate one piece from nothing.

        The arrays of the result are NumPy's, so that it travels between processes.
        """
        state = self.start()
        moments, left_out, rows = state.moments, dict(state.left_out), 0
        for batch in self.files.batches(self.columns, self.batch_rows, piece=piece):
            moments = self.add(moments, batch.table, left_out)
            rows += batch.table.num_rows
        return PassState(
            moments=jax.tree.map(np.asarray, moments),
            rows=rows,
            left_out=left_out,
            pieces=1,
        )

    def read(self, table: Any) -> tuple[Any, ...]:
        """Return features, codes, weights and the reason (0 for none) of each row."""
        n = table.num_rows
        x = self.encoder(table)
        label = codes_of(table.column(self.label), self.label_names)
        group = np.zeros(n, np.int32)
        if self.group is not None:
            group = codes_of(table.column(self.group), self.group_names)
        weights = np.ones(n)
        if self.weight is not None:
            weights = numbers_of(table.column(self.weight))
        faults = [
            label < 0,
            group < 0,
            ~(np.isfinite(weights) & (weights >= 0)),
            is_wrong(x),
        ]
        why = np.zeros(n, np.int8)
        for code, fault in reversed(list(enumerate(faults, 1))):
            why[fault] = code
        return x, label, group, weights, why

    def add(
        self, moments: MomentState, table: Any, left_out: dict[str, int]
    ) -> MomentState:
        """Add the rows of a batch that count, and count the others in `left_out`."""
        x, label, group, weights, why = self.read(table)
        bad = why > 0
        if bad.any():
            for code, reason in enumerate(REASONS, 1):
                left_out[reason] += int((why == code).sum())
            x, label, group, weights = (a.copy() for a in (x, label, group, weights))
            x[bad], label[bad], group[bad], weights[bad] = 0, 0, 0, 0
        missing = self.batch_rows - len(x)
        if missing:
            # One program for every batch, short ones too.
            x, label, group, weights = (
                np.concatenate([a, np.zeros((missing, *a.shape[1:]), a.dtype)])
                for a in (x, label, group, weights)
            )
        return update(moments, x, label, group, weights=weights)


class Tower:
    """States of pieces, merged in pairs of like size, as digits carry in counting.

    The order is fixed by the order of the pieces alone, and a row takes part in
    ``log2`` of the number of pieces merges, not in all of them: rounding does not grow
    with the length of a stream. At most ``log2`` of the number of pieces are held.
    """

    def __init__(self, parts: Sequence[PassState] = ()):
        self.parts = list(parts)

    def add(self, state: PassState) -> None:
        """Put the state of the next piece on top."""
        self.parts.append(state)
        while len(self.parts) > 1 and self.parts[-2].pieces == self.parts[-1].pieces:
            top = self.parts.pop()
            self.parts.append(_merged(self.parts.pop(), top))

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(part.rows for part in self.parts)

    def total(self) -> PassState | None:
        """Merge what is there, the smallest first; None of nothing."""
        total = None
        for part in reversed(self.parts):
            total = part if total is None else _merged(part, total)
        return total


def merge_pieces(states: Iterable[PassState]) -> PassState:
    """Merge the states of pieces in pairs, in the order given.

    The order decides the last bits: give the pieces in their own order, however they
    came in, and the moments do not depend on the number of workers.

    Raises:
        ValueError: If there are none.
    """
    tower = Tower()
    for state in states:
        tower.add(state)
    total = tower.total()
    if total is None:
        raise ValueError("states is empty; there is nothing to merge.")
    return total


def _merged(total: PassState, piece: PassState) -> PassState:
    return PassState(
        moments=merge(total.moments, piece.moments),
        rows=total.rows + piece.rows,
        left_out={r: total.left_out[r] + piece.left_out[r] for r in REASONS},
        pieces=total.pieces + piece.pieces,
    )


def run_pass(
    job: MomentPass,
    *,
    checkpoint: PathLike | None = None,
    every: int = 1,
    progress: Tell | None = None,
    pieces: Sequence[Piece] | None = None,
) -> PassState:
    """Run through all pieces, or through those of one worker, in this process.

    Memory is a few batches and ``log2`` of the number of pieces states.

    Args:
        job: What to read.
        checkpoint: A file that keeps the state and the place in the data, replaced
            after every `every` pieces. If it is there, the pass goes on from it: killed
            at any moment and started again, it ends with the same moments bit for bit,
            no row counted twice and none lost.
        every: Pieces between two checkpoints.
        progress: Called with a :class:`Progress`, say :func:`print_progress`.
        pieces: Those to run; None for all.

    Returns:
        The state at the end.

    Raises:
        ValueError: If the checkpoint is of another pass or of files that changed, a
            file cannot be read, or there are no rows.

    Example:
        A pass that goes on where it was killed::

            job = MomentPass(files=files, encoder=encoder, label="paid",
                             label_names=("no", "yes"), group="sex", group_names=("f", "m"))
            state = run_pass(job, checkpoint="moments.safetensors")
    """
    job.check()
    tower, place = Tower(), [0, 0]
    if checkpoint is not None and pathlib.Path(checkpoint).exists():
        tower, place = load_checkpoint(checkpoint, job, pieces)
    meter = Meter("taking moments", progress, job.files.total, tower.rows)
    steps = _in_turn(job, place) if pieces is None else _listed(job, pieces, place)
    unsaved = 0
    for found, place in steps:
        tower.add(found)
        meter.add(found.rows)
        unsaved += 1
        if checkpoint is not None and unsaved == every:
            save_checkpoint(checkpoint, job, tower, place, pieces)
            unsaved = 0
    meter.now()
    if checkpoint is not None and unsaved:
        save_checkpoint(checkpoint, job, tower, place, pieces)
    return tower.total() or job.start()


def _listed(
    job: MomentPass, pieces: Sequence[Piece], place: list[int]
) -> Iterator[tuple[PassState, list[int]]]:
    """The pieces of one worker, from a place in their list."""
    for index in range(place[0], len(pieces)):
        yield job.run_piece(pieces[index]), [index + 1, 0]


def _in_turn(
    job: MomentPass, place: list[int]
) -> Iterator[tuple[PassState, list[int]]]:
    """All rows from a place on, read once from front to back and cut into pieces."""
    state, left_out, own, rows = job.start().moments, dict.fromkeys(REASONS, 0), None, 0

    def piece() -> PassState:
        return PassState(
            moments=state, rows=rows, left_out=dict(left_out), pieces=1 if rows else 0
        )

    for batch in job.files.batches(
        job.columns, job.batch_rows, start=(place[0], place[1])
    ):
        here = (batch.file, batch.first // job.piece_rows)
        if own is not None and here != own:
            yield piece(), [batch.file, batch.first]
            state, rows = job.start().moments, 0
            left_out = dict.fromkeys(REASONS, 0)
        own = here
        state = job.add(state, batch.table, left_out)
        rows += batch.table.num_rows
    if own is not None:
        yield piece(), [len(job.files.paths), 0]


def save_checkpoint(
    path: PathLike,
    job: MomentPass,
    tower: Tower,
    place: list[int],
    pieces: Sequence[Piece] | None = None,
) -> None:
    """Write the state and what it belongs to, at once or not at all.

    Args:
        path: The file.
        job: The pass.
        tower: What it has seen.
        place: Where it goes on: file and row, or the place in `pieces`.
        pieces: Those of this worker, or None for all.
    """
    storage.save(
        path,
        {f"part_{i}": part.moments for i, part in enumerate(tower.parts)},
        metadata={
            "job": _identity(job, pieces),
            "parts": [[p.rows, p.left_out, p.pieces] for p in tower.parts],
            "place": place,
        },
    )


def load_checkpoint(
    path: PathLike, job: MomentPass, pieces: Sequence[Piece] | None = None
) -> tuple[Tower, list[int]]:
    """Read a state back, and the place where the pass goes on.

    Raises:
        ValueError: If it belongs to another pass, or the files have changed since.
    """
    stored = storage.load(path)
    kept, own = stored.metadata.get("job", {}), _identity(job, pieces)
    for name, value in own.items():
        if kept.get(name) != value:
            raise ValueError(
                f"The checkpoint {path} is of another pass: its {name!r} differs (the "
                f"files may have changed since). Delete it to start anew."
            )
    parts = [
        PassState(
            moments=stored[f"part_{i}"], rows=rows, left_out=left_out, pieces=count
        )
        for i, (rows, left_out, count) in enumerate(stored.metadata["parts"])
    ]
    return Tower(parts), stored.metadata["place"]


def _identity(job: MomentPass, pieces: Any) -> dict[str, Any]:
    plain = {
        field.name: getattr(job, field.name)
        for field in dataclasses.fields(job)
        if field.name not in ("files", "encoder")
    }
    plain["files"] = job.files.fingerprint()
    plain["types"] = job.files.types
    plain["encoder"] = job.encoder.to_json()
    plain["pieces"] = None if pieces is None else [list(piece) for piece in pieces]
    return _as_json(plain)


def _as_json(value: Any) -> Any:
    """Tuples as the lists that they come back as."""
    if isinstance(value, dict):
        return {name: _as_json(item) for name, item in value.items()}
    return [_as_json(v) for v in value] if isinstance(value, list | tuple) else value


def run_with(
    job: MomentPass,
    submit: Callable[[Callable[[Piece], PassState], list[Piece]], Iterable[PassState]],
    *,
    deterministic: bool = True,
) -> PassState:
    """Let others' engines run the pieces: a pool, Dask, Ray, or ``map``.

    Args:
        job: What to read.
        submit: Takes a function and the pieces, and returns the results: in the order
            of the pieces where `deterministic`, else in any, as they come in.
        deterministic: Merge in the order of the pieces: the same bits for any number
            of workers. Otherwise moments agree to rounding.

    Returns:
        The state of all rows.

    Raises:
        ValueError: If a piece is missing, or rows cannot be read.

    Example:
        >>> # run_with(job, lambda run, pieces: pool.map(run, pieces))
    """
    job.check()
    pieces = job.pieces()
    results = submit(job.run_piece, pieces)
    state = merge_pieces(results if not deterministic else list(results))
    if state.pieces != len(pieces):
        raise ValueError(
            f"submit returned {state.pieces} results for {len(pieces)} pieces; every "
            f"piece must come back once."
        )
    return state
