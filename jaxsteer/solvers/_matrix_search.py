"""Searches over matrices from several starts, as one loop with one compiled body.

A search is a list of jobs: descend from a frame of definite matrices, try a start for a
few steps, go on from the best of the ends. Every problem of a batch carries its own job,
so that no row waits for another's, and the program does not grow with the number of
starts, groups or problems.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._types import Array, Bool, Float, Int
from jaxsteer.linalg import identity_like, log_abs_det, matmul
from jaxsteer.solvers._chart import Chart, MatrixObjective, Sides
from jaxsteer.solvers._lanes import choose, run_in_lanes
from jaxsteer.solvers._solution import Status, final_status

CONVERGED = int(Status.CONVERGED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One search among several.

    Attributes:
        source: The point that it starts from; a tuple: the lowest of these, the first
            among equals; None: the frame of definite matrices `frame`.
        target: The point that its end replaces; None where it is an answer. Of several
            answers the lowest counts, of those that have converged if the first one has.
        frame: Which frame, where `source` is None.
        pinned: Whether the objective's template is pinned.
        steps: Limit on steps; None takes the solver's.
        loose: Whether an end near the minimum is enough: it only serves as a start.
    """

    source: int | tuple[int, ...] | None
    target: int | None = None
    frame: int = 0
    pinned: bool = False
    steps: int | None = None
    loose: bool = False


class Starts(NamedTuple):
    """Where the jobs of one problem start.

    Attributes:
        points: ``[m, g, d, d]`` invertible matrices; those that a job replaces before
            they are read may hold anything.
        coordinates: ``[g, d, d]`` left factors of the charts of general matrices.
        inverse: ``[g, d, d]`` their inverses; not read where all jobs are definite.
        frames: ``[f, g, d, d]`` left factors of the first points of definite matrices
            times a fixed factor.
        rights: ``[f, g, d, d]`` the right factors: ``frames' R`` for a fixed ``R``.
        free: ``[g]`` which matrices a job with an unpinned template moves; a pinned one
            moves all.
    """

    points: Float[Array, "m g d d"]
    coordinates: Float[Array, "g d d"]
    inverse: Float[Array, "g d d"]
    frames: Float[Array, "f g d d"]
    rights: Float[Array, "f g d d"]
    free: Bool[Array, " g"]


class SearchEnd(NamedTuple):
    """The best answer of a search: a chart whose center it is, and how it ended."""

    chart: Chart
    value: Float[Array, ""]
    residual: Float[Array, ""]
    status: Int[Array, ""]
    steps: Int[Array, ""]


class _Problem(NamedTuple):
    objective: Any
    starts: Starts
    sizes: Array  # of the points, then of the frames
    noise: Array  # difference of values that is rounding
    tolerance: Array
    loose_tolerance: Array


class _Point(NamedTuple):
    """A chart's center, its value, and the residual where it is known.

    `size` is the weighted sum of its log-determinants.
    """

    sides: Sides
    value: Array
    residual: Array
    size: Array


class _State(NamedTuple):
    job: Array  # -1 before the first
    here: _Point
    memory: Any
    best: _Point  # of this job
    steps: Array  # of this job
    total: Array
    loading: Array  # the next iteration starts the next job
    points: Array | None  # None where no job reads any
    sizes: Array  # of the points
    values: Array
    answer: _Point | None  # None where there is one job: it is the best point
    answer_job: Array  # -1: none yet
    status: Array
    done: Array


class _Row(NamedTuple):
    """One job as numbers, looked up where the loop is."""

    definite: Array
    pinned: Array
    loose: Array
    answer: Array
    frame: Array
    target: Array
    limit: Array
    sources: Array  # [m]


@dataclasses.dataclass(frozen=True)
class _Table:
    """The jobs as an array, looked up at once.

    Attributes:
        rows: ``[jobs, 7 + m]`` int32.
    """

    rows: np.ndarray

    @classmethod
    def of(cls, jobs: Sequence[Job], n_points: int, max_steps: int) -> _Table:
        rows = np.zeros((len(jobs), 7 + n_points), np.int32)
        for row, job in zip(rows, jobs, strict=True):
            definite, answer = job.source is None, job.target is None
            target = -1 if job.target is None else job.target
            limit = max_steps if job.steps is None else job.steps
            flags = definite, job.pinned, job.loose, answer
            row[:7] = *flags, job.frame, target, limit
            wanted = () if job.source is None else job.source
            row[7 + np.atleast_1d(np.asarray(wanted, int))] = 1
        return cls(rows)

    def __getitem__(self, job: Array) -> _Row:
        row = jax.lax.dynamic_index_in_dim(
            jnp.asarray(self.rows), job, keepdims=False, allow_negative_indices=False
        )
        definite, pinned, loose, answer = row[:4] > 0
        frame, target, limit = row[4:7]
        sources = row[7:] > 0
        return _Row(definite, pinned, loose, answer, frame, target, limit, sources)

    @property
    def some_definite(self) -> bool:
        return bool(self.rows[:, 0].any())

    @property
    def some_general(self) -> bool:
        return not self.rows[:, 0].all()

    @property
    def several(self) -> bool:
        return len(self.rows) > 1


@dataclasses.dataclass(frozen=True)
class _Search:
    """The search as functions of one problem and its state."""

    solver: Any
    table: _Table

    def begin(self, problem: _Problem) -> _State:
        """Before the first job; every entry depends on the problem (see vmap, vma)."""
        starts = problem.starts
        x = starts.points[0] if self.table.some_general else starts.frames[0]
        never = jnp.sum(x) > jnp.inf  # False
        zero = jnp.where(never, 1, 0).astype(jnp.int32)
        unknown = jnp.where(never, 0.0, jnp.inf).astype(x.dtype)
        start = _Point(Sides(identity_like(x), x), unknown, unknown, unknown)
        memory = self.solver.begin(start.sides)
        memory = jax.tree.map(lambda m: jnp.where(never, jnp.zeros_like(m), m), memory)
        return _State(
            job=zero - 1,
            here=start,
            memory=memory,
            best=start,
            steps=zero,
            total=zero,
            loading=~never,
            points=starts.points if self.table.some_general else None,
            sizes=problem.sizes[: len(starts.points)],
            values=jnp.broadcast_to(unknown, starts.points.shape[:1]),
            answer=start if self.table.several else None,
            answer_job=zero - 1,
            status=zero,
            done=never,
        )

    def chart(self, sides: Sides, row: _Row, starts: Starts) -> Chart:
        """The chart that a job uses around a point."""
        return Chart(
            left=sides.left,
            right=sides.right,
            symmetric=row.definite,
            free=starts.free | row.pinned,
        )

    def first(self, state: _State, problem: _Problem, row: _Row) -> tuple[Sides, Array]:
        """Where a job starts: its chart's sides, and its size."""
        starts, sides = problem.starts, []
        if self.table.some_definite:
            left = _pick(starts.frames, row.frame)
            right = _pick(starts.rights, row.frame)
            size = _pick(problem.sizes, len(starts.points) + row.frame)
            sides.append((Sides(left, right), size))
        if state.points is not None:
            values = jnp.where(jnp.isnan(state.values), jnp.inf, state.values)
            values = jnp.where(row.sources, values, jnp.inf)
            near = row.sources & (values <= jnp.min(values) + problem.noise)
            nearest = jnp.argmax(near)
            right = matmul(starts.inverse, _pick(state.points, nearest))
            size = _pick(state.sizes, nearest)
            sides.append((Sides(starts.coordinates, right), size))
        return sides[0] if len(sides) == 1 else choose(row.definite, *sides)

    def advance(self, state: _State, problem: _Problem) -> _State:
        """Take a step, or start the next job."""
        objective, starts = problem.objective, problem.starts
        loading = state.loading
        next_job = jnp.where(loading, state.job + 1, state.job)
        row, next_row = self.table[jnp.maximum(state.job, 0)], self.table[next_job]
        proposal = self.solver.propose(
            objective.pinned_if(row.pinned),
            self.chart(state.here.sides, row, starts),
            state.memory,
            ~loading,
        )
        start, first_size = self.first(state, problem, next_row)
        sides = choose(loading, start, proposal.sides)
        there = objective.pinned_if(next_row.pinned)
        point = sides.point
        # By how much a step changes a log-determinant is known to more digits than the
        # difference of two.
        growth = getattr(proposal, "growth", None)
        if growth is None:
            size = jnp.sum(objective.log_weight * log_abs_det(point))
        else:
            size = state.here.size + jnp.sum(objective.log_weight * growth)
        size = jnp.where(loading, first_size, size)
        value = there.value(point) - size
        scale = jnp.sum(objective.log_weight) * sides.left.shape[-1]
        verdict = self.solver.judge(
            proposal, state.memory, state.here.value, value, scale
        )
        # The present job.
        tolerance = jnp.where(row.loose, problem.loose_tolerance, problem.tolerance)
        solved = proposal.residual <= tolerance
        steps = state.steps + jnp.where(solved, 0, 1)
        ended = ~loading & (solved | verdict.hopeless | (steps >= row.limit))
        here = state.here._replace(residual=proposal.residual)
        best = choose(verdict.record, here, state.best)
        # What it leaves.
        place = (jnp.arange(state.values.shape[0]) == row.target) & ended
        points = state.points
        if points is not None:
            end = best.sides.point
            points = jnp.where(place[:, None, None, None], end[None], points)
        status = final_status(best.residual, tolerance, steps, row.limit)
        better = ended & row.answer
        if state.answer is not None:
            lower = best.value < state.answer.value - problem.noise
            lower = lower & ((status == CONVERGED) | (state.status != CONVERGED))
            better = better & (lower | ~(state.answer.value < jnp.inf))
        # What the next one starts with; one without a finite value ends at once.
        unknown = jnp.full_like(value, jnp.inf)
        fresh = _Point(sides, value, unknown, size)
        broken = loading & ~jnp.isfinite(value)
        over = ended | broken
        lost = broken & next_row.answer & (state.answer_job < 0)
        undefined = -unknown + unknown
        nothing = _Point(sides, undefined, undefined, undefined)
        best = choose(loading, fresh, best)
        if state.answer is None:
            answer, best = None, choose(lost, nothing, best)
        else:
            answer = choose(lost, nothing, choose(better, best, state.answer))
        last = over & (next_job == len(self.table.rows) - 1)
        moves = loading | (verdict.accepted & ~solved)
        status = jnp.where(better, status, state.status)
        return _State(
            job=next_job,
            here=choose(moves, fresh, state.here),
            memory=choose(loading, self.solver.begin(sides), verdict.memory),
            best=best,
            steps=jnp.where(loading, 0, steps),
            total=state.total + jnp.where(loading | solved, 0, 1),
            loading=over & ~last,
            points=points,
            sizes=jnp.where(place, best.size, state.sizes),
            values=jnp.where(place, best.value, state.values),
            answer=answer,
            answer_job=jnp.where(better | lost, next_job, state.answer_job),
            status=jnp.where(lost, int(Status.NONFINITE), status),
            done=last,
        )


def _pick(stack: Array, index: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(
        stack, index, keepdims=False, allow_negative_indices=False
    )


def search(
    solver: Any,
    objective: MatrixObjective,
    starts: Starts,
    jobs: Sequence[Job],
    tolerance: Array,
    loose_tolerance: Array,
) -> SearchEnd:
    """Run the jobs of one problem, one after the other.

    ``vmap`` runs many problems in lanes (see :mod:`jaxsteer.solvers._lanes`). Not
    differentiable: see :func:`~jaxsteer.solvers.attach_derivative`.

    Args:
        solver: Proposes and judges steps.
        objective: The objective.
        starts: Points and frames that the jobs start from.
        jobs: The jobs, at least one of which is an answer.
        tolerance: ``[]`` residual that counts as converged.
        loose_tolerance: ``[]`` likewise, for jobs that only serve as starts.

    Returns:
        The lowest answer; the first among equals.
    """
    table = _Table.of(jobs, starts.points.shape[0], solver.max_steps)
    run = _Search(solver, table)
    d = starts.points.shape[-1]
    centers = starts.points, matmul(starts.frames, starts.rights)
    eps = float(jnp.finfo(starts.points.dtype).eps)
    problem = _Problem(
        objective=objective,
        starts=starts,
        sizes=jnp.concatenate([_sizes(objective, x) for x in centers]),
        noise=100 * eps * d * jnp.sum(objective.log_weight),
        tolerance=tolerance,
        loose_tolerance=loose_tolerance,
    )
    end = run_in_lanes(run.begin, run.advance, _result, problem)
    row = table[jnp.maximum(end.answer_job, 0)]
    chart = run.chart(end.answer.sides, row, starts)
    return SearchEnd(
        chart, end.answer.value, end.answer.residual, end.status, end.total
    )


def _sizes(objective: MatrixObjective, x: Array) -> Array:
    """Weighted sums of the log-determinants of matrices ``[n, g, d, d]``."""
    return jnp.sum(objective.log_weight * log_abs_det(x), -1)


class _Result(NamedTuple):
    answer: _Point
    answer_job: Array
    status: Array
    total: Array


def _result(state: _State) -> _Result:
    answer = state.best if state.answer is None else state.answer
    return _Result(answer, state.answer_job, state.status, state.total)
