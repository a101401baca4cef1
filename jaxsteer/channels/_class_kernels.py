"""Kernels from several experiments to one common experiment of the highest utility."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxsteer.channels._kernel import least_cost


def common_experiment(
    laws: np.ndarray, utility: np.ndarray, away: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the target and the kernels together by one linear program.

    Over ``M_a >= 0`` and ``f* >= 0``, maximize ``sum_it utility_it f*_it`` subject to
    rows of each ``M_a`` summing to 1 and ``M_a' f_ia = f*_i`` for every class ``i`` and
    group ``a``. Always feasible: a constant kernel ignores its bins. Sparse, solved by
    HiGHS through SciPy in ``G B T + K T`` variables and ``G (B + K T)`` equations.

    With `away` what a group delivers may lie as far from ``f*`` in each of its entries,
    and the utility is that of the mean of what the groups deliver.

    Args:
        laws: ``[G, K, B]`` law of the bin given class, in each group; rows sum to 1.
        utility: ``[K, T]`` what an atom is worth in each class, class shares included.
        away: ``[G, K]`` distances from the target that are allowed, or None.

    Returns:
        Kernels ``[G, B, T]``, with a constant row for bins without mass, and the target
        ``[K, T]``: the mean of what the groups deliver.

    Raises:
        RuntimeError: If HiGHS gives up.
    """
    from scipy import sparse

    n_groups, n_classes, n_bins = laws.shape
    n_atoms = utility.shape[1]
    eye = sparse.eye(n_atoms)
    rows = sparse.kron(sparse.eye(n_groups * n_bins), np.ones((1, n_atoms)))
    deliver: Any = sparse.block_diag([sparse.kron(law, eye) for law in laws])
    target = sparse.kron(np.ones((n_groups, 1)), sparse.eye(n_classes * n_atoms))
    nothing: Any = sparse.csr_matrix((n_groups * n_bins, n_classes * n_atoms))
    n_kernel = n_groups * n_bins * n_atoms
    blocks: list[list[Any]] = [[rows, nothing], [deliver, -target]]
    cost = np.concatenate([np.zeros(n_kernel), -utility.ravel()])
    sides, most = np.zeros(deliver.shape[0]), None
    if away is not None:
        # delivered - target + slack = away with 0 <= slack <= 2 away.
        sides = np.repeat(away.ravel(), n_atoms)
        none: Any = sparse.csr_matrix((n_groups * n_bins, len(sides)))
        blocks = [[*blocks[0], none], [*blocks[1], sparse.eye(len(sides))]]
        worth = np.einsum("gkb,kt->gbt", laws, utility).ravel() / n_groups
        cost = np.concatenate([-worth, np.zeros(n_classes * n_atoms + len(sides))])
        free = np.full(n_kernel + n_classes * n_atoms, np.inf)
        most = np.concatenate([free, 2 * sides])
    found = least_cost(
        cost,
        sparse.bmat(blocks, format="csr"),
        np.concatenate([np.ones(n_groups * n_bins), sides]),
        failure="no kernels for the multiclass channel",
        most=most,
    )
    kernels = found[:n_kernel].reshape(n_groups, n_bins, n_atoms)
    kernels /= kernels.sum(-1, keepdims=True)
    # The mean of what the groups deliver, which is the target to the solver's accuracy.
    goal = (laws @ kernels).mean(0)
    empty = laws.sum(1) == 0
    share = goal.mean(0) / goal.mean(0).sum()
    return np.where(empty[..., None], share, kernels), goal
