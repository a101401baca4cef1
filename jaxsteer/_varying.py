"""Arrays that vary over the same axes of a mesh, as ``shard_map`` wants them.

With ``check_vma=True`` the type of an array says over which axes of the mesh its values
vary. A constant varies over none, so that a loop that starts with one and goes on with
the data changes the type of what it carries. Outside ``shard_map`` nothing varies, and
these functions return what they are given.
"""

from __future__ import annotations

from typing import Any, TypeVar

import jax

T = TypeVar("T")


def vary_together(tree: T, like: Any = ()) -> T:
    """Let all leaves vary over every axis that any of them, or of `like`, varies over.

    Args:
        tree: Pytree of arrays.
        like: Others, which are only looked at.
    """
    axes = _axes(tree) | _axes(like)
    if not axes:
        return tree
    return jax.tree.map(lambda leaf: _cast(leaf, axes - _axes(leaf)), tree)


def _axes(tree: Any) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for leaf in jax.tree.leaves(tree):
        kind = jax.typeof(leaf)
        axes = getattr(kind, "vma", None)  # jax 0.7
        if axes is None:
            axes = getattr(getattr(kind, "mat", None), "varying", ())
        found |= frozenset(axes)
    return found


def _cast(leaf: Any, axes: frozenset[str]) -> Any:
    if not axes:
        return leaf
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(leaf, tuple(axes), to="varying")
    return jax.lax.pvary(leaf, tuple(axes))  # pyright: ignore[reportAttributeAccessIssue]
