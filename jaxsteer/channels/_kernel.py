"""Markov kernels that degrade one binary experiment to a less informative one."""

from __future__ import annotations

from typing import Any

import numpy as np


def degrading_kernel(
    source: np.ndarray, target: np.ndarray, mix: np.ndarray
) -> tuple[np.ndarray, float]:
    """Find the kernel from `source` to `target` that moves ranks the least.

    A linear program over ``M >= 0``: rows sum to 1 and ``M' source_y = target_y`` for
    both classes ``y``; it minimizes the expected squared change of rank. By the
    Blackwell-Sherman-Stein theorem it is feasible whenever the target's ROC curve lies
    below the source's concave hull. Solved by HiGHS through SciPy (which JAX itself
    depends on), ``B T`` variables.

    Args:
        source: ``[2, B]`` law of the bin given class 0 and 1, lowest scores first.
        target: ``[2, T]`` law of the atom given class 0 and 1, likewise.
        mix: ``[2]`` class shares by which ranks are taken.

    Returns:
        The kernel ``[B, T]`` and its slack, the largest violated constraint.

    Raises:
        RuntimeError: If the program has no solution (the target is not less
            informative).
    """
    from scipy import sparse

    def middle_rank(law):
        mass = mix @ law
        return np.cumsum(mass) - mass / 2

    n_bins, n_atoms = source.shape[1], target.shape[1]
    mass = mix @ source
    away = middle_rank(source)[:, None] - middle_rank(target)[None, :]
    cost = (mass[:, None] * away**2).ravel()
    rows = sparse.kron(sparse.eye(n_bins), np.ones((1, n_atoms)))
    columns = [
        sparse.kron(law[None, :], sparse.eye(n_atoms)) for law in (source[0], source[1])
    ]
    found = least_cost(
        cost,
        sparse.vstack([rows, *columns], format="csr"),
        np.concatenate([np.ones(n_bins), target[0], target[1]]),
        failure="no kernel found for the ROC channel",
    )
    kernel = found.reshape(n_bins, n_atoms)
    kernel /= kernel.sum(1, keepdims=True)
    slack = max(
        np.abs(law @ kernel - goal).max()
        for law, goal in zip(source, target, strict=True)
    )
    return kernel, float(slack)


def least_cost(
    cost: np.ndarray,
    equations: Any,
    sides: np.ndarray,
    *,
    failure: str,
    most: np.ndarray | None = None,
) -> np.ndarray:
    """Minimize ``cost @ x`` over ``x >= 0`` with ``equations @ x = sides``, by HiGHS.

    Args:
        cost: ``[m]``.
        equations: ``[c, m]`` sparse matrix.
        sides: ``[c]``.
        failure: What to say where HiGHS gives up.
        most: ``[m]`` upper bounds of ``x``, or None.

    Returns:
        ``[m]``, at least 0.

    Raises:
        RuntimeError: If HiGHS gives up.
    """
    from scipy.optimize import linprog

    found: Any = linprog(
        cost,
        A_eq=equations,
        b_eq=sides,
        bounds=(0, None) if most is None else np.stack([np.zeros_like(most), most], 1),
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10},
    )
    if found.status != 0:
        raise RuntimeError(f"{failure} ({found.message}); use fewer bins.")
    return np.maximum(found.x, 0)
