"""``family_sensitivity``: what of a steering depends on the family that was chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsteer._types import ArrayLike, Float, Int
from jaxsteer.ideal import nearest_ideal
from jaxsteer.moments._suggest import Fit, family_candidates


@dataclasses.dataclass(frozen=True, kw_only=True)
class FamilySensitivity:
    """The nearest ideal under several families, and where each takes the rows.

    Attributes:
        families: Names, in the order given.
        kl: ``[F]`` divergence of the nearest ideal, in nats.
        displacement: ``[F]`` root mean square distance that rows move, each feature in
            units of its standard deviation, per feature.
        disagreement: ``[F, F]`` the same between the steered rows of two families.
    """

    families: tuple[str, ...]
    kl: np.ndarray
    displacement: np.ndarray
    disagreement: np.ndarray


def family_sensitivity(
    x: Float[ArrayLike, " n"] | Float[ArrayLike, "n d"],
    label: Int[ArrayLike, " n"],
    group: Int[ArrayLike, " n"],
    families: Mapping[str, Fit] | None = None,
    **options: Any,
) -> FamilySensitivity:
    """Steer the same rows under several families and compare where they end.

    Args:
        x: ``[n]`` or ``[n, d]`` features; standardized, as for
            :func:`jaxsteer.moments.suggest_family`.
        label: ``[n]`` class codes.
        group: ``[n]`` group codes.
        families: How each is fitted, by name; None takes
            :func:`jaxsteer.moments.family_candidates`.
        **options: For :func:`jaxsteer.nearest_ideal`.

    Returns:
        The comparison, of label-free group maps. One fit and one solve a family.

    Raises:
        ValueError: As the fits; and where a solve does not converge,
            :class:`jaxsteer.SolveError`.

    Example:
        >>> import numpy as np, jaxsteer as js
        >>> rng = np.random.default_rng(0)
        >>> code = rng.integers(0, 2, (2, 500))
        >>> x = rng.gamma(2.0, size=500) * (1.0 + code[0] + 0.5 * code[1])
        >>> every = js.moments.family_candidates(x)
        >>> some = {name: every[name] for name in ("normal", "gamma")}
        >>> found = family_sensitivity(x, *code, some)
        >>> bool(found.disagreement[0, 1] < found.displacement.max())
        True
    """
    families = family_candidates(x) if families is None else families
    rows = np.asarray(x, float)
    size = rows.std(0)
    kl, ends = [], [rows]
    for fit in families.values():
        steering = nearest_ideal(fit(x, label, group), **options).require()
        moved = steering.transport(jnp.asarray(x), jnp.asarray(group))
        kl.append(float(steering.kl))
        ends.append(np.asarray(moved, float))
    ends = np.stack(ends)
    gaps = (ends[:, None] - ends[None]) / np.where(size > 0, size, 1.0)
    gaps = gaps.reshape(len(ends), len(ends), -1)
    distance = np.sqrt(np.mean(gaps**2, -1))
    return FamilySensitivity(
        families=tuple(families),
        kl=np.array(kl),
        displacement=distance[0, 1:],
        disagreement=distance[1:, 1:],
    )
