"""``nearest_ideal_batch``: many problems at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._chunks import map_in_chunks
from jaxsteer._types import Array, Int
from jaxsteer.ideal._nearest import solve
from jaxsteer.ideal._options import Options, check_problem
from jaxsteer.population import Population
from jaxsteer.solvers import Differentiate
from jaxsteer.steering import Steering

# Numbers per leaf in one chunk: more would leave the cache, fewer waste the vector units.
CHUNK_NUMBERS = 2**14


def nearest_ideal_batch(
    pops: Population | Sequence[Population],
    *,
    intervention: str = "affirmative",
    reference: int | Int[Array, ""] | None = None,
    maps: str = "general",
    priors: str = "reweigh",
    allow_reflection: bool = False,
    solver: Any = None,
    differentiate: Differentiate = "implicit",
    pivot: int | Int[Array, ""] = 0,
    batch_size: int | None = None,
) -> Steering:
    """Solve many problems of one shape, a chunk at a time.

    A problem that is unusable (NaN, a prior of 0, a singular covariance) or does not
    converge says so in its own row and changes no other: every chunk runs one compiled
    program for `batch_size` problems, the last one filled up, so that a row's answer is
    the same to the bit whatever the other rows hold.

    Args:
        pops: Populations stacked along a leading axis of every leaf, ``priors`` of
            shape ``[N, K, G]``; or a sequence of populations of one family and shape.
        intervention: As for :func:`jaxsteer.nearest_ideal`, like all that follow but
            the last.
        reference: The group that stays in every population; None takes the largest of
            each.
        maps: Which maps are allowed.
        priors: How the new priors are chosen.
        allow_reflection: Allow maps that turn the orientation.
        solver: For kinds of maps that iterate.
        differentiate: How derivatives pass through, first ones only; for higher ones
            take ``vmap`` of :func:`jaxsteer.nearest_ideal`.
        pivot: The class that "pivot" is relative to.
        batch_size: Problems solved side by side, which share every step until the
            slowest of them is done; None chooses by size.

    Returns:
        A steering whose leaves have a leading axis ``N``: `status`, `residual`,
        `steps`, `kl` ``[N]``, and so on. ``require()`` names the rows that failed; row
        ``r`` alone is ``jax.tree.map(lambda leaf: leaf[r], steering)``.

    Raises:
        ValueError: As :func:`jaxsteer.nearest_ideal`, or if `pops` is empty, its
            populations cannot be stacked, or `batch_size` is below 1.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> loc = jnp.array([[[0.0, 0.0], [1.0, 2.0]], [[0.0, 0.0], [1.0, jnp.nan]]])
        >>> cells = js.Normal(loc, jnp.ones((2, 2, 2)))
        >>> found = js.nearest_ideal_batch(js.Population(jnp.full((2, 2, 2), 0.25), cells))
        >>> [js.Status(int(code)).name for code in found.status]
        ['CONVERGED', 'BAD_INPUT']
    """
    pops = pops if isinstance(pops, Population) else _stack(pops)
    options = Options(
        intervention=intervention,
        maps=maps,
        allow_reflection=allow_reflection,
        solver=solver,
        differentiate=differentiate,
    )
    check_problem(pops, priors, options, reference, pivot, batch=True)
    n = pops.priors.shape[0]
    if n == 0:
        raise ValueError("pops is empty; give at least one population.")
    if batch_size is None:
        largest = max(leaf.size for leaf in jax.tree.leaves(pops)) // n
        batch_size = min(n, max(1, CHUNK_NUMBERS // largest))
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r} must be a whole number above 0.")
    return _chunked(pops, reference, pivot, priors, options, batch_size)


@partial(jax.jit, static_argnames=("priors", "options", "batch_size"))
def _chunked(
    pops: Population,
    reference: Any,
    pivot: Any,
    priors: str,
    options: Options,
    batch_size: int,
) -> Steering:
    def one(pop):
        if options.differentiate == "none":
            pop = jax.lax.stop_gradient(pop)
        return solve(pop, reference, pivot, priors=priors, options=options)

    return map_in_chunks(one, pops, batch_size)


def _stack(pops: Sequence[Population]) -> Population:
    pops = list(pops)
    if not pops:
        raise ValueError("pops is empty; give at least one population.")
    trees = {jax.tree.structure(pop) for pop in pops}
    shapes = {tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(pop)) for pop in pops}
    if len(trees) > 1 or len(shapes) > 1:
        raise ValueError(
            "pops must be populations of one family and shape; group them by number of "
            "classes, groups and features, and solve each set on its own."
        )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *pops)
