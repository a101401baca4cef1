"""``nearest_ideal_batch``: many problems at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxsteer._chunks import map_in_chunks
from jaxsteer._compilation import broadcasting, jit_for_few_calls
from jaxsteer._types import Array, Int
from jaxsteer.ideal._nearest import solve, working_dtype
from jaxsteer.ideal._programs import Options, check_problem, choose
from jaxsteer.population import Population, check_kind
from jaxsteer.solvers import Differentiate, Solver
from jaxsteer.steering import Steering

# Numbers per leaf in one chunk. Within a chunk the searches run a few at a time, and the
# hard ones last, so that chunks need only be small enough for the memory.
CHUNK_NUMBERS = 2**18
FILLED = 1024  # problems up to which a chunk of the size asked for is filled up


@broadcasting
def nearest_ideal_batch(
    pops: Population | Sequence[Population],
    *,
    intervention: str = "affirmative",
    reference: int | Int[Array, ""] | None = None,
    maps: str = "general",
    priors: str = "reweigh",
    allow_reflection: bool = False,
    solver: Solver | None = None,
    differentiate: Differentiate = "implicit",
    pivot: int | Int[Array, ""] = 0,
    batch_size: int | None = None,
    mesh: Mesh | None = None,
) -> Steering:
    """Solve many problems of one shape, a chunk at a time, on one device or several.

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
        batch_size: Problems in one chunk, whose closed forms are computed side by side;
            None chooses by size. Searches run a few at a time whatever the chunk, and a
            hard one does not hold the easy ones.
        mesh: Devices to spread the problems over, every axis of it; None: where `pops`
            are. Each device solves its own share without a word to the others; the
            steering comes back sharded along its leading axis. A number of problems
            that the devices do not divide is filled up and cut off again.

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
    options, tolerance = choose(
        solver,
        working_dtype(pops),
        intervention=intervention,
        maps=maps,
        allow_reflection=allow_reflection,
        differentiate=differentiate,
    )
    check_problem(pops, priors, options, reference, pivot, batch=True)
    n = pops.priors.shape[0]
    if n == 0:
        raise ValueError("pops is empty; give at least one population.")
    devices = 1 if mesh is None else mesh.size
    share = -(-n // devices)
    if batch_size is None:
        largest = max(leaf.size for leaf in jax.tree.leaves(pops)) // n
        batch_size = min(share, max(1, CHUNK_NUMBERS // largest))
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r} must be a whole number above 0.")
    # A chunk is filled up, so that a row's answer does not depend on how many there are;
    # beyond reason that would only take memory.
    batch_size = min(batch_size, max(share, FILLED))
    fixed = {"priors": priors, "options": options, "batch_size": batch_size}
    if mesh is None:
        return _chunked(pops, reference, pivot, tolerance, **fixed)
    return _spread(pops, reference, pivot, tolerance, mesh=mesh, **fixed)


@partial(jax.jit, static_argnames=("mesh", "priors", "options", "batch_size"))
def _spread(
    pops: Population,
    reference: Any,
    pivot: Any,
    tolerance: Any,
    *,
    mesh: Mesh,
    **fixed: Any,
) -> Steering:
    """Every device's share by :func:`_chunked`, without a collective."""
    n = pops.priors.shape[0]
    missing = -n % mesh.size

    def fill(leaf: Array):
        if not missing:  # nor may a sharded axis be sliced
            return leaf
        rest = jnp.broadcast_to(leaf[:1], (missing, *leaf.shape[1:]))
        return jnp.concatenate([leaf, rest])

    along, everywhere = PartitionSpec(mesh.axis_names), PartitionSpec()
    pops = _placed(jax.tree.map(fill, pops), mesh, along)
    solve_share = jax.shard_map(
        partial(_chunked, **fixed),
        mesh=mesh,
        in_specs=(along, everywhere, everywhere, everywhere),
        out_specs=along,
        check_vma=False,
    )
    found = solve_share(pops, reference, pivot, tolerance)
    if not missing:
        return found
    return jax.tree.map(lambda leaf: leaf[:n], _placed(found, mesh, everywhere))


def _placed(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Arrays as a mesh with explicit axes wants them, which moves nothing by itself."""
    if AxisType.Explicit not in mesh.axis_types:
        return tree
    return jax.sharding.reshard(tree, NamedSharding(mesh, spec))


@partial(
    jit_for_few_calls, static_argnames=("priors", "options", "batch_size"), quick=False
)
def _chunked(
    pops: Population,
    reference: Any,
    pivot: Any,
    tolerance: Any,
    *,
    priors: str,
    options: Options,
    batch_size: int,
) -> Steering:
    def one(pop: Population):
        if options.differentiate == "none":
            pop = jax.lax.stop_gradient(pop)
        return solve(pop, reference, pivot, tolerance, priors=priors, options=options)

    return map_in_chunks(one, pops, batch_size)


def _stack(pops: Sequence[Population]) -> Population:
    pops = list(pops)
    for row, pop in enumerate(pops):
        check_kind(pop, f"pops[{row}]")
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
