"""Compilation of large programs that run for milliseconds, and how many are kept."""

from __future__ import annotations

import enum
import functools
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import version
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from jaxsteer._errors import is_concrete
from jaxsteer._stages import staged, uncut
from jaxsteer._stored_programs import (
    StoredProgram,
    can_be_stored,
    setting,
    stored_program,
)

P = ParamSpec("P")
R = TypeVar("R")

# On a CPU most of a first call goes into compiling a few hundred small kernels. Older
# emitters and fewer passes make the same arithmetic in half of the time, at the same
# speed for programs of small matrices. jaxlib 0.12 no longer has the former.
_CPU_OPTIONS = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 1,
}
_KNOWN_BEFORE = (0, 12)
# What runs once a call is translated as it stands, where arrays and matrices are small:
# a call then takes half a millisecond more, at 32 features two and a half.
_ONCE = {"xla_backend_optimization_level": 0}
FEW_NUMBERS, FEW_ENTRIES = 8192, 512
MANY_ENTRIES = 2**20  # of a matrix


@functools.cache
def _quick_options() -> dict[str, Any] | None:
    release = tuple(int(part) for part in version("jaxlib").split(".")[:2])
    if release < _KNOWN_BEFORE and jax.default_backend() == "cpu":
        return dict(_CPU_OPTIONS)
    return None


def _at_top_level(args: Any) -> bool:
    """Whether a call is no part of another program, where options may be given."""
    leaves = jax.tree.leaves(args)
    return is_concrete(*leaves) and is_concrete(jnp.zeros((), jnp.float32))


class _Tracing(threading.local):
    """Whether this thread is tracing a program that is to be cut into stages."""

    stages = False

    @contextmanager
    def for_stages(self) -> Generator[None, None, None]:
        before, self.stages = self.stages, True
        try:
            yield
        finally:
            self.stages = before


_TRACING = _Tracing()


class _Size(enum.Enum):
    """Of a program's arrays: what its compilation, or its memory, asks for."""

    SMALL = enum.auto()  # first calls take longer than all others
    MIDDLE = enum.auto()
    LARGE = enum.auto()  # memory counts: a search should not hold what it does not read


def _size(leaves: Sequence[Any]) -> _Size:
    shapes = [jnp.shape(leaf) for leaf in leaves]
    entries = max((math.prod(shape[-2:]) for shape in shapes), default=0)
    if entries >= MANY_ENTRIES:
        return _Size.LARGE
    few = sum(map(math.prod, shapes)) <= FEW_NUMBERS and entries <= FEW_ENTRIES
    return _Size.SMALL if few else _Size.MIDDLE


def _is_ordinary(leaves: Sequence[Any]) -> bool:
    """Whether a program may hand arrays from stage to stage, or be kept on disk.

    Not where JAX looks for NaN in all that programs return, nor over several devices.
    """
    watched = map(setting, ("debug_nans", "debug_infs", "disable_jit"))
    return not (
        any(watched)
        or any(
            leaf.sharding.num_devices > 1
            for leaf in leaves
            if isinstance(leaf, jax.Array)
        )
        or not jax.sharding.get_abstract_mesh().empty
    )


# What else a trace depends on.
_CONTEXT = ("enable_x64", "numpy_dtype_promotion", "default_matmul_precision")
# What JAX's own programs are traced again for, beside that, and compiled ones are not.
_MORE_CONTEXT = (
    *("default_device", "default_prng_impl", "numpy_rank_promotion"),
    *("random_seed_offset", "softmax_custom_jvp", "threefry_partitionable"),
    *("use_direct_linearize", "use_simplified_jaxpr_constants"),
)


def _context(*, compiled: bool) -> tuple[Any, ...]:
    return tuple(map(setting, _CONTEXT + (_MORE_CONTEXT if compiled else ())))


class _Place(NamedTuple):
    """Where programs of a function may be kept on disk; see `stored_program`."""

    fn: Callable[..., Any]
    static: dict[str, Any]

    def of(self, args: Any, kwargs: Any, *how: Any) -> StoredProgram | None:
        leaves, tree = jax.tree.flatten((args, kwargs))
        return stored_program(self.fn, self.static, tree, leaves, *how)


class _Program:
    """A program that is made at its first call: stages if that pays, or from disk.

    Args:
        fn: The function.
        options: Of the compiler.
        cut: Whether to cut it into stages if that pays.
        large: Whether its arrays are large.
        place: Where it may be kept; None if it may not be.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        options: dict[str, Any] | None,
        *,
        cut: bool,
        large: bool,
        place: _Place | None,
    ):
        self._whole = jax.jit(fn, compiler_options=options)
        self._options, self._cut, self._large = options, cut, large
        self._place = place
        self._ready: Callable[..., Any] | None = None
        self._lock = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        ready = self._ready
        if ready is None:
            with self._lock:
                ready = self._ready
                if ready is None:
                    return self._first_call(args, kwargs)
        return ready(*args, **kwargs)

    def _first_call(self, args: Any, kwargs: Any) -> Any:
        how = (self._options, self._cut, self._large)
        stored = self._place and self._place.of(args, kwargs, *how)
        loaded = stored.load() if stored else None
        if loaded is not None:
            # That it cannot be run shows only then, and later than its call. What is
            # the caller's error comes again.
            with suppress(Exception):
                found = jax.block_until_ready(loaded(*args, **kwargs))
                self._ready = loaded
                return found
        self._ready = self._made(args, kwargs, stored)
        return self._ready(*args, **kwargs)

    def _made(
        self, args: Any, kwargs: Any, stored: StoredProgram | None
    ) -> Callable[..., Any]:
        start = time.perf_counter()
        with _TRACING.for_stages() if self._cut else nullcontext():
            traced = self._whole.trace(*args, **kwargs)
        # XLA writes only what it has compiled itself: under a name of its own a stage
        # is not found in JAX's cache.
        name = f"{traced.fun_name}_{secrets.token_hex(4)}" if stored else ""
        stages = None
        if self._cut:
            stages = staged(traced, self._compile, large=self._large, name=name)
        if not stored:
            return stages or self._whole
        stages = (stages or uncut(traced, self._compile, name=name)).compiled()
        least = setting("persistent_cache_min_compile_time_secs")
        if time.perf_counter() - start >= least:
            stored.save(stages)
        return stages

    def _compile(self, part: Callable[..., Any], loops: bool) -> Any:
        options = self._options
        if not loops and not self._large and options is not None:
            options = options | _ONCE
        return jax.jit(part, compiler_options=options)

    def clear_cache(self) -> None:
        for program in (self._whole, self._ready):
            if program is not None:
                program.clear_cache()  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
        self._ready = None

    def _cache_size(self) -> int:
        return int(self._ready is not None)


class _Programs:
    """Compiled programs by signature, the one that was used longest ago in front."""

    def __init__(self, most: int):
        self.most, self.clear, self.dropped = most, False, 0
        self._kept: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, signature: Any, make: Callable[[], Any]) -> Any:
        """The program of a signature, made if need be; the oldest one is dropped."""
        with self._lock:
            program = self._kept.pop(signature, None) or make()
            self._kept[signature] = program
            self._drop()
        return program

    def keep(self, most: int, clear: bool) -> int:
        """Change the limit; the one before."""
        with self._lock:
            before, self.most, self.clear = self.most, most, clear
            self._drop()
        return before

    def count(self, fn: Any) -> int:
        """How many programs of a function there are."""
        with self._lock:
            own = [kept for (of, *_), kept in self._kept.items() if of is fn]
        return sum(program._cache_size() for program in own)

    def _drop(self) -> None:
        while len(self._kept) > self.most:
            # A thread that runs it now holds what it needs.
            self._kept.popitem(last=False)[1].clear_cache()
            self.dropped += 1
        if self.clear and self.dropped >= self.most:
            self.dropped = 0
            jax.clear_caches()


DEFAULT_LIMIT = 512
_PROGRAMS = _Programs(DEFAULT_LIMIT)


def limit_programs(most: int, *, clear: bool = False) -> int:
    """Set how many compiled programs of the front doors are kept in memory.

    Every family, shape, precision and set of options of :func:`jaxsteer.nearest_ideal`,
    :func:`jaxsteer.nearest_ideal_batch` and :func:`jaxsteer.is_ideal` is a program of
    its own, of one to a few megabytes. Beyond the limit the one used longest ago is
    dropped, and compiled again when it is asked for. JAX keeps traces of its own
    functions for the shapes that they were called with, one to two megabytes for each
    dropped program, until thousands have come together; only ``jax.clear_caches()``
    drops these, with all programs, those of other packages too. What runs inside a
    program of your own (``jax.jit``, ``vmap``) belongs to that.

    Where you have given JAX a folder for its persistent cache
    (``jax_compilation_cache_dir``), programs for one processor are kept on disk as well,
    in its subfolder ``jaxsteer``, and a second process's first call reads them instead
    of tracing; ``JAXSTEER_STORED_PROGRAMS=0`` in the environment turns that off. Their
    number there is 256 at most, whatever the limit in memory.

    Args:
        most: The limit, at least 1; 512 until it is set.
        clear: Whether ``jax.clear_caches()`` is called whenever as many programs as the
            limit have been dropped: for processes that live on ever new shapes. Programs
            that are used again compile again.

    Returns:
        The limit before.

    Raises:
        ValueError: If `most` is no whole number above 0, or `clear` no bool.

    Example:
        >>> from jaxsteer.solvers import limit_programs
        >>> limit_programs(64)
        512
        >>> limit_programs(512)
        64
    """
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ValueError(f"most={most!r} must be a whole number above 0.")
    if not isinstance(clear, bool):
        raise ValueError(f"clear={clear!r} must be True or False.")
    return _PROGRAMS.keep(most, clear)


def _signature(leaf: Any) -> Any:
    """What of an argument a program is compiled for, at least."""
    if hasattr(leaf, "dtype"):
        return leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)
    return type(leaf)


def jit_for_few_calls(
    fn: Callable[..., Any], *, static_argnames: Sequence[str], quick: bool = True
) -> Callable[..., Any]:
    """``jax.jit`` where the call is a program of its own, which is then one of a few.

    Such programs compile faster, and are dropped when :func:`limit_programs` others have
    been used since. Inside another program (``jit``, ``grad``, ``vmap``) it is
    ``jax.jit``.

    Where the user has given JAX a folder for its persistent cache
    (``jax_compilation_cache_dir``), and the program runs on one processor, it is kept
    there as well, in the subfolder ``jaxsteer``: a second process takes it from the disk
    without tracing it. JAX's settings for its cache hold: whether it is enabled, from
    which time of preparation on a program is kept, and how much room there is (beside
    that, 256 files). Its name is a digest of all that it depends on: the
    package's source and what has been patched of it, the arguments' types, all
    settings of JAX, all versions, the processor. Calls that cannot be named so, with
    families or optimizers of the user's own, on arrays bound to a device, or with
    ``jax_debug_nans``, go the usual way; so do all with ``JAXSTEER_STORED_PROGRAMS=0``
    in the environment. Who can write to the folder can run code in the processes that
    read it, as for JAX's own cache (see :mod:`jaxsteer._stored_programs`).

    Args:
        fn: The function.
        static_argnames: As for ``jax.jit``; they are given by name.
        quick: Whether to compile with fewer passes, and to cut programs of small and of
            large arrays into stages (see :mod:`jaxsteer._stages`).
    """
    plain = jax.jit(fn, static_argnames=static_argnames)

    def compiled(static: dict[str, Any], size: _Size, stored: bool) -> Any:
        # JAX keeps what it compiles by function: one of its own goes with its programs.
        own = functools.wraps(fn)(functools.partial(fn, **static))
        options = _quick_options() if quick else None
        large = size is _Size.LARGE
        cut = large or (size is _Size.SMALL and options is not None)
        if cut or stored:
            place = _Place(fn, static) if stored else None
            return _Program(own, options, cut=cut, large=large, place=place)
        return jax.jit(own, compiler_options=options)

    def programs() -> int:
        """How many programs have been compiled or traced, and not been dropped."""
        return _PROGRAMS.count(fn) + plain._cache_size()  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _at_top_level((args, kwargs)):
            return (fn if _TRACING.stages else plain)(*args, **kwargs)
        static = {k: v for k, v in kwargs.items() if k in static_argnames}
        free = {k: v for k, v in kwargs.items() if k not in static_argnames}
        leaves, tree = jax.tree.flatten((args, free))
        ordinary = _is_ordinary(leaves)
        size = _size(leaves) if quick and ordinary else _Size.MIDDLE
        stored = ordinary and can_be_stored(leaves)
        context = _context(compiled=stored)
        fixed = (size, stored, *context, *sorted(static.items()))
        signature = (fn, fixed, tree, *map(_signature, leaves))
        program = _PROGRAMS.get(signature, lambda: compiled(static, size, stored))
        return program(*args, **free)

    call.programs = programs  # pyright: ignore[reportAttributeAccessIssue]
    return call


def broadcasting(fn: Callable[P, R]) -> Callable[P, R]:
    """Let a function broadcast arrays of different rank, whatever the user's setting.

    ``jax_numpy_rank_promotion="raise"`` finds what a user's code broadcasts by mistake;
    here it is done on purpose.
    """

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.numpy_rank_promotion("allow"):
            return fn(*args, **kwargs)

    return call
