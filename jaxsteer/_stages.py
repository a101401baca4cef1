"""A program as several: its searches, and what runs once before, between and after.

Compilers spend as long on a kernel that runs once as on one that runs a thousand times.
Of a search most kernels are of the former kind: coordinates, starts, maps, divergences.
As programs of their own they are translated as they stand, in a fifth of the time.
Where arrays are large, what only an earlier or a later one needs takes no memory while a
search runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

LARGE_BODY = 100  # equations from which on a loop is a search
# Equations beside the searches from which on a program is cut: a call of three programs
# takes some tenths of a millisecond more than one of one.
MANY_BESIDE = 1500
FEW_BETWEEN = 200  # equations between two searches that are no stage of their own
FEW_ENTRIES = 2**14  # of an array that may be kept from stage to stage at no cost


class Stage(NamedTuple):
    """A program, and where what it takes and what it returns stand in a list.

    Attributes:
        run: The compiled function of arrays.
        takes: Places of its arguments.
        gives: Places of its results.
        last: Places of the list that no later stage takes.
        shapes: What it takes, without values.
    """

    run: Any
    takes: tuple[int, ...]
    gives: tuple[int, ...]
    last: tuple[int, ...] = ()
    shapes: tuple[jax.ShapeDtypeStruct, ...] = ()


class Staged(NamedTuple):
    """A function's stages.

    Attributes:
        stages: In their order; the last one gives the results.
        size: Length of the list.
        tree: Of the results.
    """

    stages: list[Stage]
    size: int
    tree: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the stages."""
        given = jax.tree.leaves((args, kwargs))
        values = given + [None] * (self.size - len(given))
        found: list[Any] = []
        for stage in self.stages:
            found = stage.run(*(values[place] for place in stage.takes))
            for place in stage.last:
                values[place] = None  # its memory is free for the next one
            for place, value in zip(stage.gives, found, strict=False):
                values[place] = value
        return jax.tree.unflatten(self.tree, found)

    def compiled(self) -> Staged:
        """The same stages, compiled now, for just what they take."""
        runs = [stage.run.lower(*stage.shapes).compile() for stage in self.stages]
        pairs = zip(self.stages, runs, strict=True)
        return self._replace(stages=[stage._replace(run=run) for stage, run in pairs])

    def clear_cache(self) -> None:
        """Drop what has been compiled."""
        for stage in self.stages:
            if hasattr(stage.run, "clear_cache"):  # others go with the stages
                stage.run.clear_cache()


def staged(
    traced: Any,
    compile_stage: Callable[[Callable[..., Any], bool], Any],
    *,
    large: bool = False,
    name: str = "",
) -> Staged | None:
    """Cut a program into stages.

    Args:
        traced: What ``jax.jit(fn).trace(...)`` returns.
        compile_stage: From a function of arrays, and whether it is one of loops, to the
            compiled one.
        large: Whether arrays are large: then a program with a search is always cut, and
            a stage makes again what is cheap to make from what is kept anyway.
        name: Of the stages; that of the function if there is none.

    Returns:
        The stages, one if there are no loops; None where cutting does not pay.
    """
    jaxpr = traced.jaxpr.jaxpr
    pieces = _pieces(_live(jaxpr))
    beside = sum(_equations(eqn) for eqns, loops in pieces if not loops for eqn in eqns)
    if not large and beside < MANY_BESIDE and any(loops for _, loops in pieces):
        return None
    if large:
        pieces = _made_again(pieces, jaxpr)
    return _assembled(traced, pieces, compile_stage, name)


def uncut(
    traced: Any,
    compile_stage: Callable[[Callable[..., Any], bool], Any],
    *,
    name: str = "",
) -> Staged:
    """A program as one stage, that counts as one of loops; see :func:`staged`."""
    pieces = [(_live(traced.jaxpr.jaxpr), True)]
    return _assembled(traced, pieces, compile_stage, name)


def _assembled(
    traced: Any,
    pieces: list[tuple[list[Any], bool]],
    compile_stage: Callable[[Callable[..., Any], bool], Any],
    name: str,
) -> Staged:
    closed = traced.jaxpr
    jaxpr = closed.jaxpr
    needs = [_needs(eqns) for eqns, _ in pieces]
    needs[-1] = _needs(pieces[-1][0], jaxpr.outvars)
    place = {var: i for i, var in enumerate(jaxpr.invars)}
    stages = []
    for i, (eqns, loops) in enumerate(pieces):
        later = set(itertools.chain.from_iterable(needs[i + 1 :]))
        gives = [v for eqn in eqns for v in eqn.outvars if v in later]
        ends = gives if i < len(pieces) - 1 else jaxpr.outvars
        takes = [v for v in needs[i] if v in place]
        part = partial(jaxpr_as_fun(_part(closed, eqns, takes, ends)))
        part.__name__ = f"{name or traced.fun_name}_{i}"  # pyright: ignore[reportAttributeAccessIssue]
        stages.append(
            Stage(
                compile_stage(part, loops),
                takes=tuple(place[v] for v in takes),
                gives=tuple(range(len(place), len(place) + len(gives))),
                last=tuple(place[v] for v in place if v not in later),
                shapes=tuple(_shape(v.aval) for v in takes),
            )
        )
        place |= {var: len(place) + j for j, var in enumerate(gives)}
    return Staged(stages, len(place), jax.tree.structure(traced.out_info))


def _shape(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def _pieces(eqns: list[Any]) -> list[tuple[list[Any], bool]]:
    """Runs of equations that are searches, and that are not, in turn."""
    flags = [_is_search(eqn) for eqn in eqns]
    runs = [(list(run), flag) for flag, run in _runs(eqns, flags)]
    for i in range(1, len(runs) - 1):
        run, loops = runs[i]
        if not loops and sum(map(_equations, run)) < FEW_BETWEEN:
            runs[i] = run, True
    flags = [loops for run, loops in runs for _ in run]
    return [(list(run), flag) for flag, run in _runs(eqns, flags)]


# What copies or moves entries, and what scales them.
_MOVES = {"broadcast_in_dim", "convert_element_type", "copy", "gather", "iota"}
_MOVES |= {"reshape", "rev", "slice", "squeeze", "stop_gradient", "transpose"}
_SCALES = {"div", "mul", "neg"}


def _cheap(eqns: list[Any], given: list[Any]) -> list[Any]:
    """The equations whose results may as well be made again from one large operand.

    A scaled array takes as much memory as the one that it is made from, unless that is
    the caller's, who holds it anyway.
    """
    held, cheap = set(given), []
    for eqn in eqns:
        large = [v for v in _variables(eqn.invars) if _is_large(v)]
        name = eqn.primitive.name
        if len(large) < 2 and name in _MOVES | _SCALES:
            of_held = held.issuperset(large)
            if of_held:
                held.update(eqn.outvars)
            if of_held or name in _MOVES:
                cheap.append(eqn)
    return cheap


def _is_large(variable: Any) -> bool:
    return math.prod(variable.aval.shape) > FEW_ENTRIES


def _made_again(
    pieces: list[tuple[list[Any], bool]], jaxpr: Jaxpr
) -> list[tuple[list[Any], bool]]:
    """The same pieces, each with what it needs of cheap equations of earlier ones."""
    before: list[Any] = []
    full: list[tuple[list[Any], bool]] = []
    for i, (eqns, loops) in enumerate(pieces):
        ends = jaxpr.outvars if i == len(pieces) - 1 else ()
        wanted, again = set(_needs(eqns, ends)), list[Any]()
        for eqn in reversed(_cheap(before, jaxpr.invars)):
            if not wanted.isdisjoint(eqn.outvars):
                again.insert(0, eqn)
                wanted.update(_variables(eqn.invars))
        full.append((again + eqns, loops))
        before += eqns
    return full


def _runs(values: list[Any], flags: list[bool]) -> Iterator[tuple[bool, Iterator[Any]]]:
    marked = itertools.groupby(zip(flags, values, strict=True), lambda pair: pair[0])
    return ((flag, (value for _, value in pairs)) for flag, pairs in marked)


def _needs(eqns: list[Any], ends: Any = ()) -> list[Any]:
    """What some equations, and results, read that the equations do not make."""
    made = {v for eqn in eqns for v in eqn.outvars}
    read = [v for eqn in eqns for v in _variables(eqn.invars)]
    read += _variables(ends)
    return [v for v in dict.fromkeys(read) if v not in made]


def _part(
    closed: ClosedJaxpr, eqns: list[Any], takes: list[Any], gives: list[Any]
) -> ClosedJaxpr:
    """Some equations as a function of what they take to what they give."""
    jaxpr = closed.jaxpr
    unnamed = jaxpr.debug_info._replace(arg_names=None, result_paths=None)
    part = jaxpr.replace(eqns=eqns, invars=takes, outvars=gives, debug_info=unnamed)
    return ClosedJaxpr(part, closed.consts)


def _variables(atoms: Any) -> Iterator[Any]:
    return (atom for atom in atoms if not isinstance(atom, Literal))


def _live(jaxpr: Jaxpr) -> list[Any]:
    """The equations that something of the results depends on."""
    wanted, live = set(_variables(jaxpr.outvars)), []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or not wanted.isdisjoint(eqn.outvars):
            live.append(eqn)
            wanted.update(_variables(eqn.invars))
    return live[::-1]


def _inner(eqn: Any) -> Iterator[Jaxpr]:
    """The programs inside an equation."""
    for value in eqn.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part


def _equations(eqn: Any) -> int:
    """How many equations an equation stands for."""
    return 1 + sum(_equations(below) for jaxpr in _inner(eqn) for below in jaxpr.eqns)


def _is_search(eqn: Any) -> bool:
    """Whether an equation is, or holds, a loop with a large body."""
    if eqn.primitive.name in ("while", "scan") and _equations(eqn) > LARGE_BODY:
        return True
    return any(_is_search(below) for jaxpr in _inner(eqn) for below in jaxpr.eqns)
