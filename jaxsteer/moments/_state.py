"""The moments of what has been seen of a stream of rows."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxsteer._errors import check_choice
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, DTypeLike, Float
from jaxsteer.moments._cells import CellMoments

SCATTERS = ("cell", "group", "pooled")


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class MomentState:
    """What is known of the rows so far (cell ``c = class * G + group``).

    ``S`` counts the covariances that are kept: one for every cell, one for every group,
    or one. All are about the means of the cells.

    Attributes:
        mass: ``[C]`` sums of the weights.
        squares: ``[C]`` sums of the squared weights.
        mean: ``[C, d]``, 0 for a cell without mass.
        cov: ``[S, d, d]`` scatter about the cells' means, divided by the mass.
        third: ``[C, d]`` means of ``|y|^2 y`` for rows ``y`` about the mean, in units of
            ``(tr cov / d)^{3/2}`` of the cell.
        fourth: ``[C]`` means of ``|y|^4`` in units of ``(tr cov / d)^2``. Third and
            fourth moments are 0 unless there is a covariance for every cell.
        level: ``[C]`` the units, ``tr cov / d`` of each cell.
        n_groups: ``G``.
    """

    mass: Float[Array, " C"]
    squares: Float[Array, " C"]
    mean: Float[Array, "C d"]
    cov: Float[Array, "S d d"]
    third: Float[Array, "C d"]
    fourth: Float[Array, " C"]
    level: Float[Array, " C"]
    n_groups: int = dataclasses.field(metadata={"static": True})

    @property
    def n_classes(self) -> int:
        """Number of classes ``K``."""
        return self.mass.shape[0] // self.n_groups

    @property
    def scatter(self) -> str:
        """Whose covariances are kept: "cell", "group" or "pooled"."""
        kept = self.cov.shape[0]
        if kept == self.mass.shape[0]:
            return "cell"
        return "pooled" if kept == 1 else "group"


def init(
    n_features: int,
    *,
    n_classes: int,
    n_groups: int = 1,
    scatter: str = "cell",
    dtype: DTypeLike | None = None,
) -> MomentState:
    """Start from no rows.

    Args:
        n_features: ``d``.
        n_classes: ``K``.
        n_groups: ``G``; 1 for moments of classes only, as LEACE needs them.
        scatter: Which covariances to keep. "cell": one a cell, for
            :func:`fit_population`'s "full". "group": one a group, for its "tied". "pooled":
            one for all rows, which is enough for LEACE and principal directions, and
            takes the least memory.
        dtype: Of the sums; None takes JAX's default, float32 unless x64 is on. At least
            float32, whatever the batches are.

    Returns:
        The empty state.

    Raises:
        ValueError: If a size is not positive, or an option is unknown.

    Example:
        >>> state = init(3, n_classes=2, n_groups=2)
        >>> state.cov.shape
        (4, 3, 3)
    """
    check_choice("scatter", scatter, SCATTERS)
    sizes = {"n_features": n_features, "n_classes": n_classes, "n_groups": n_groups}
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or size < 1:
            raise ValueError(f"{name}={size!r} must be a whole number, at least 1.")
    dtype = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
    if not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits < 32:
        raise ValueError(f"dtype={dtype.name} is too narrow for sums; pass float32.")
    cells = n_classes * n_groups
    kept = {"cell": cells, "group": n_groups, "pooled": 1}[scatter]
    return MomentState(
        mass=jnp.zeros(cells, dtype),
        squares=jnp.zeros(cells, dtype),
        mean=jnp.zeros((cells, n_features), dtype),
        cov=jnp.zeros((kept, n_features, n_features), dtype),
        third=jnp.zeros((cells, n_features), dtype),
        fourth=jnp.zeros(cells, dtype),
        level=jnp.zeros(cells, dtype),
        n_groups=int(n_groups),
    )


def owners(state: MomentState) -> np.ndarray:
    """Which covariance each cell belongs to, ``[C]``; known while tracing."""
    cells = np.arange(state.mass.shape[0])
    kind = state.scatter
    if kind == "cell":
        return cells
    return cells % state.n_groups if kind == "group" else np.zeros_like(cells)


def cell_moments_of(state: MomentState) -> CellMoments:
    """The state as the moments that :func:`shrink` and the intensities take.

    Its rows are cells, groups or one, as the state's covariances are; means and fourth
    moments are the cells' where there is a covariance for each, otherwise zero.
    """
    owner, kept = owners(state), state.cov.shape[0]

    def pool(values: Array):
        return jnp.zeros(kept, values.dtype).at[owner].add(values)

    mass, squares = pool(state.mass), pool(state.squares)
    own = state.scatter == "cell"
    return CellMoments(
        mass=mass,
        effective_count=mass * mass / jnp.where(squares > 0, squares, 1.0),
        mean=state.mean if own else jnp.zeros((kept, state.mean.shape[1])),
        cov=state.cov,
        fourth=state.fourth if own else jnp.zeros(kept, state.fourth.dtype),
    )
