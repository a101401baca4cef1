"""From streamed moments to a Population, or to the moments of groups and classes."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_choice, is_concrete
from jaxsteer._types import Array, Float
from jaxsteer.families import MultivariateNormal
from jaxsteer.linalg import matmul
from jaxsteer.moments._columns import CellColumns
from jaxsteer.moments._diagnosis import diagnose
from jaxsteer.moments._shrinkage import check_shrinkage, shrink
from jaxsteer.moments._state import MomentState, cell_moments_of
from jaxsteer.population import Population

BY = ("all", "class", "group")


def finish(state: MomentState, *, shrinkage: str | float | None = "oas") -> Population:
    """Fit the normal population that :func:`fit_population` fits to the same rows.

    Priors are the cells' shares; covariances are maximum likelihood, shrunk as asked:
    "full" from a state with ``scatter="cell"``, "tied" from ``scatter="group"``.

    Args:
        state: What was accumulated.
        shrinkage: "oas", "ledoit-wolf" (cells only), an intensity in [0, 1], or None.

    Returns:
        The population, with batch shape ``[K, G]``.

    Raises:
        ValueError: If the state keeps one covariance only, has empty cells or cells too
            small for what is fitted, or an option is unknown; as
            :func:`fit_population`, with its warnings.

    Example:
        >>> import numpy as np
        >>> from jaxsteer.moments import accumulate
        >>> rng = np.random.default_rng(0)
        >>> label, group = np.arange(40) % 2, np.arange(40) // 2 % 2
        >>> batches = [(rng.normal(size=(40, 2)), label, group) for _ in range(3)]
        >>> pop = finish(accumulate(batches, n_classes=2, n_groups=2))
        >>> pop.conditionals.cov.shape
        (2, 2, 2, 2)
    """
    shrinkage = check_shrinkage(shrinkage)
    kind = state.scatter
    if kind == "pooled":
        raise ValueError(
            "The state keeps one covariance for all groups; accumulate with "
            "scatter='group' or 'cell' for a population."
        )
    if kind == "group" and shrinkage == "ledoit-wolf":
        raise ValueError(
            "shrinkage='ledoit-wolf' needs fourth moments of every covariance, which "
            "scatter='group' does not keep; use 'oas', or scatter='cell'."
        )
    moments = cell_moments_of(state)
    squares = jnp.where(state.squares > 0, state.squares, 1.0)
    columns = CellColumns(
        mass=state.mass,
        effective_count=state.mass**2 / squares,
        mean=state.mean,
        variance=jnp.diagonal(state.cov, axis1=-2, axis2=-1)
        if kind == "cell"
        else jnp.zeros_like(state.mean),
    )
    if is_concrete(*jax.tree.leaves(state)):
        diagnose(
            columns,
            state.n_groups,
            covariance="full" if kind == "cell" else "tied",
            shrinkage=shrinkage,
            moments=moments,
        )
    cov = shrink(moments, shrinkage)
    repeats = state.mass.shape[0] // cov.shape[0]
    law = MultivariateNormal(state.mean, jnp.tile(cov, (repeats, 1, 1)))
    cells = (state.n_classes, state.n_groups)
    law = jax.tree.map(lambda leaf: leaf.reshape(cells + leaf.shape[1:]), law)
    return Population((state.mass / jnp.sum(state.mass)).reshape(cells), law)


def marginal_means(
    state: MomentState, by: str
) -> tuple[Float[Array, " m"], Float[Array, "m d"]]:
    """Masses and means of all rows, of every class or of every group.

    Args:
        state: What was accumulated.
        by: "all" (m = 1), "class" or "group".

    Returns:
        ``[m]`` masses and ``[m, d]`` means, 0 where there is no mass.
    """
    owner, m = _codes(state, by)
    mass = jnp.zeros(m, state.mass.dtype).at[owner].add(state.mass)
    share = state.mass / jnp.where(mass > 0, mass, 1.0)[owner]
    empty = jnp.zeros((m, state.mean.shape[1]), state.mean.dtype)
    mean = empty.at[owner].add(share[:, None] * state.mean)
    return mass, mean


def marginal_covariances(state: MomentState, by: str) -> Float[Array, "m d d"]:
    """Covariances of all rows, of every class or of every group, about their own means.

    What lies within cells, and what lies between the cells' means. Denominators are the
    masses.

    Args:
        state: What was accumulated.
        by: "all" (m = 1), "class" or "group".

    Raises:
        ValueError: If the state's covariances do not tell: a state with
            ``scatter="pooled"`` has "all" only, one with "group" has no "class".

    Example:
        >>> import numpy as np
        >>> from jaxsteer.moments import accumulate
        >>> batch = (np.array([[0.0], [2.0]]), np.array([0, 1]))
        >>> state = accumulate([batch], n_classes=2, scatter="pooled")
        >>> marginal_covariances(state, "all").tolist()
        [[[1.0]]]
    """
    owner, m = _codes(state, by)
    kind = state.scatter
    if by != "all" and kind not in ("cell", by):
        raise ValueError(
            f"The state has scatter={kind!r}, which does not tell covariances by {by}; "
            f"accumulate with scatter='cell'."
        )
    mass, mean = marginal_means(state, by)
    safe = jnp.where(mass > 0, mass, 1.0)
    own = cell_moments_of(state).mass
    part = jnp.arange(state.cov.shape[0])
    place = (
        {"cell": owner, by: part, "pooled": part * 0}[kind] if by != "all" else part * 0
    )
    d = mean.shape[1]
    cov = jnp.zeros((m, d, d), mean.dtype)
    cov = cov.at[place].add((own / safe[place])[:, None, None] * state.cov)
    shift = jnp.where(state.mass[:, None] > 0, state.mean - mean[owner], 0.0)
    share = state.mass / safe[owner]

    def between(code: Array):
        mine = jnp.where(owner == code, share, 0.0)
        return matmul((mine[:, None] * shift).T, shift)

    return cov + jax.lax.map(between, jnp.arange(m))


def _codes(state: MomentState, by: str) -> tuple[Array, int]:
    check_choice("by", by, BY)
    cell = jnp.arange(state.mass.shape[0])
    if by == "all":
        return jnp.zeros_like(cell), 1
    if by == "class":
        return cell // state.n_groups, state.n_classes
    return cell % state.n_groups, state.n_groups
