"""Compilation of large programs that run for milliseconds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from jaxsteer._errors import is_concrete

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


def jit_for_few_calls(
    fn: Callable[..., Any], *, static_argnames: Sequence[str]
) -> Callable[..., Any]:
    """``jax.jit`` that compiles faster where the call is a program of its own.

    Inside another program (``jit``, ``grad``, ``vmap``) it is ``jax.jit``.

    Args:
        fn: The function.
        static_argnames: As for ``jax.jit``.
    """
    plain = jax.jit(fn, static_argnames=static_argnames)
    quick = functools.cache(
        lambda: jax.jit(
            fn, static_argnames=static_argnames, compiler_options=_quick_options()
        )
    )

    def programs() -> int:
        """How many programs have been compiled or traced so far."""
        return sum(jitted._cache_size() for jitted in (plain, quick()))  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]

    @functools.wraps(fn)
    def call(*args, **kwargs):
        return (quick() if _at_top_level((args, kwargs)) else plain)(*args, **kwargs)

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
