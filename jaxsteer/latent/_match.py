"""Groups of two fits, matched: the names of latent groups mean nothing."""

from __future__ import annotations

import numpy as np

from jaxsteer._types import ArrayLike


def match_groups(found: ArrayLike, reference: ArrayLike) -> list[int]:
    """Return the order of `found`'s groups that is nearest to `reference`.

    ``argmin_order sum_j |found[order[j]] - reference[j]|^2``, over all orders (by the
    Hungarian method).

    Args:
        found: ``[G, ...]`` coefficients, or responsibilities transposed.
        reference: ``[G, ...]`` of the same shape.

    Returns:
        For each group of `reference` the index of its match, as
        :meth:`RomeFit.permute` takes it.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> match_groups([[5.0], [1.0], [3.0]], [[1.1], [2.9], [5.2]])
        [1, 2, 0]
    """
    left, right = np.asarray(found, float), np.asarray(reference, float)
    if left.shape != right.shape or left.ndim < 1:
        raise ValueError(
            f"found and reference must have one shape [G, ...], got "
            f"{list(left.shape)} and {list(right.shape)}."
        )
    from scipy.optimize import linear_sum_assignment

    flat = (left.reshape(len(left), -1), right.reshape(len(right), -1))
    gaps = ((flat[0][None] - flat[1][:, None]) ** 2).sum(-1)
    return linear_sum_assignment(gaps)[1].tolist()
