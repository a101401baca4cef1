"""One kernel for all groups whose atoms have one law in each, given the label."""

from __future__ import annotations

import numpy as np

from jaxsteer.channels._kernel import least_cost

_NEGLIGIBLE = 1e-8


def blind_kernel(laws: np.ndarray, utility: np.ndarray) -> np.ndarray:
    """Choose the most useful kernel that treats the groups alike without seeing them.

    Over ``M >= 0`` with rows that sum to 1, maximize ``sum_bt utility_bt M_bt`` subject
    to ``M' f_ka = M' f_k0`` for every law ``k`` and group ``a``. Always feasible: every
    bin may go to one atom. Sparse, solved by HiGHS through SciPy in ``B T`` variables and
    ``B + L (G - 1) T`` equations.

    Args:
        laws: ``[G, L, B]`` laws of the bin in each group that are to become alike: given
            a class, by counts and by whatever else estimates them.
        utility: ``[B, T]`` what sending all of a bin to an atom is worth.

    Returns:
        The kernel ``[B, T]``.

    Raises:
        RuntimeError: If HiGHS gives up.
    """
    from scipy import sparse

    n_bins, n_atoms = utility.shape
    # On the host, in float64, which JAX may not have.
    # Equations that nearly follow from the others would end the solver far from the
    # optimum: an orthonormal basis of the differences, without what is below 1e-8 of them.
    apart = (laws[1:] - laws[0]).reshape(-1, n_bins)
    _, size, basis = np.linalg.svd(apart, full_matrices=False)
    apart = basis[size > _NEGLIGIBLE * max(size.max(), 1e-6)]
    # Differences of laws sum to 0; where the rounding of a small one says otherwise, not
    # even the kernel of one atom would be allowed.
    apart = apart - apart.mean(1, keepdims=True)
    rows = sparse.kron(sparse.eye(n_bins), np.ones((1, n_atoms)))
    alike = sparse.kron(sparse.csr_matrix(apart), sparse.eye(n_atoms))
    found = least_cost(
        -utility.ravel(),
        sparse.vstack([rows, alike], format="csr"),
        np.concatenate([np.ones(n_bins), np.zeros(len(apart) * n_atoms)]),
        failure="no kernel found for the blind channel",
    )
    kernel = found.reshape(n_bins, n_atoms)
    return kernel / kernel.sum(1, keepdims=True)


def information_utility(joint: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Expected log score ``[B, T]`` of saying ``P(Y = 1) = values_t`` in bin ``b``.

    Args:
        joint: ``[2, B]`` joint probabilities of the class and the bin.
        values: ``[T]`` in (0, 1).
    """
    negative, positive = joint
    return negative[:, None] * np.log1p(-values) + positive[:, None] * np.log(values)


def most_informative(
    laws: np.ndarray, joint: np.ndarray, n_atoms: int, *, rounds: int = 3
) -> np.ndarray:
    """Choose the kernel whose calibrated atoms tell most of the label.

    The mutual information of atom and label is the expected log score of the atom's own
    posterior. Given posteriors it is linear in the kernel, given a kernel the atoms'
    posteriors are the best: the two take turns, and each turn raises it.

    Args:
        laws: ``[G, L, B]`` laws of the bin in each group that are to become alike.
        joint: ``[2, B]`` joint probabilities of the class and the bin.
        n_atoms: ``T``.
        rounds: Linear programs to solve.

    Returns:
        The kernel ``[B, T]``.
    """
    mass = joint.sum(0)
    rate = np.clip(joint[1] / np.where(mass > 0, mass, 1), 1e-4, 1 - 1e-4)
    order = np.argsort(rate)
    # Posteriors at equal steps of the class-balanced mass.
    balanced = (joint / joint.sum(1, keepdims=True)).mean(0)[order]
    middle = np.cumsum(balanced) - balanced / 2
    values = np.interp((np.arange(n_atoms) + 0.5) / n_atoms, middle, rate[order])
    kernel = np.empty(0)
    for _ in range(rounds):
        kernel = blind_kernel(laws, information_utility(joint, values))
        atoms = joint @ kernel
        used = atoms.sum(0) > 1e-12
        own = np.clip(atoms[1, used] / atoms.sum(0)[used], 1e-6, 1 - 1e-6)
        values = values.copy()
        values[used] = own
    return kernel
