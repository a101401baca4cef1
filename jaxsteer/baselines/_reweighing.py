"""Reweighing: sample weights that make label and group independent.

Formula: ``w[i, a] = q[i, .] q[., a] / q[i, a]`` for rows of class ``i``, group ``a``.

Idea: the rows stay as they are; combinations that are rarer than independence says
count more, the others less. Demographic parity of the labels follows, nothing about
features.

Siblings: the prior mode ``"reweigh"`` of the nearest-ideal programs has the same
target; mean matching, MiMiC and LEACE move the features and leave the weights.

Paper: Kamiran and Calders 2012, "Data preprocessing techniques for classification
without discrimination", section 4.3.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_codes, check_same_length, check_weights, is_concrete
from jaxsteer._labels import cell_codes
from jaxsteer._types import Array, ArrayLike, Float, Int


def reweighing(
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    *,
    weights: Float[ArrayLike, " n"] | None = None,
    n_classes: int | None = None,
    n_groups: int | None = None,
) -> Float[Array, " n"]:
    """Weight the rows so that the weighted joint is the product of its marginals.

    ``w = q[i, .] q[., a] / q[i, a]``, times the given weights. The marginals and the
    sum of the weights stay as they were. Cost O(n + K G); differentiable in `weights`.

    Args:
        label: ``[n]`` integer codes ``0..K-1``.
        group: ``[n]`` integer codes ``0..G-1``.
        weights: ``[n]`` sample weights that the rows have already, at least 0.
        n_classes: K; None takes the largest code plus one, which needs concrete codes.
        n_groups: G; likewise.

    Returns:
        ``[n]`` sample weights, with mean 1 where no `weights` are given.

    Raises:
        ValueError: If lengths, codes or weights are unusable, or a class has no rows in
            a group: no weights make those independent. While the values are traced,
            nothing is raised and the weights of the other cells are returned.

    Example:
        >>> import jax.numpy as jnp
        >>> label, group = jnp.array([0, 0, 0, 1, 0, 1]), jnp.array([0, 0, 0, 0, 1, 1])
        >>> [round(w, 3) for w in reweighing(label, group).tolist()]
        [0.889, 0.889, 0.889, 1.333, 1.333, 0.667]

    References:
        Kamiran and Calders 2012, Knowledge and Information Systems 33, section 4.3.
    """
    check_same_length(label=label, group=group, weights=weights)
    classes = check_codes("label", label, n_classes)
    groups = check_codes("group", group, n_groups)
    if weights is None:
        mass = jnp.ones(np.shape(label), jnp.result_type(float))
    else:
        check_weights(weights)
        mass = jnp.asarray(weights)
        mass = mass.astype(jnp.result_type(mass.dtype, jnp.float32))
    cell = jnp.asarray(cell_codes(label, group, groups))
    joint = jax.ops.segment_sum(mass, cell, classes * groups)
    joint = joint.reshape(classes, groups)
    # Shares first: a product of two marginal counts may be beyond float32's integers.
    total = jnp.sum(joint)
    target = jnp.sum(joint, 1, keepdims=True) * (jnp.sum(joint, 0) / total)
    if is_concrete(joint):
        _require_filled(np.asarray(joint), np.asarray(target))
    filled = joint > 0
    ratio = jnp.where(filled, target / jnp.where(filled, joint, 1), 0)
    return mass * ratio.reshape(-1)[cell]


def _require_filled(joint: np.ndarray, target: np.ndarray) -> None:
    empty = np.argwhere((joint <= 0) & (target > 0))
    if len(empty):
        i, a = (int(v) for v in empty[0])
        raise ValueError(
            f"class {i} has no rows of positive weight in group {a} ({len(empty)} "
            f"empty cells in all), so no weights make label and group independent; "
            f"merge classes or groups, or leave that class or group out."
        )
