"""Moments that forget, a watch on the ideality gap, and maps swapped while running."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Bool, Float, Key, PyTree
from jaxsteer.families import MultivariateNormal, Normal
from jaxsteer.ideal import ideality_gap
from jaxsteer.linalg import cholesky, einsum, matmul, transpose
from jaxsteer.moments import MomentState
from jaxsteer.population import Population


def forget(
    state: MomentState, rows: float, *, half_life: float | Float[Array, ""]
) -> MomentState:
    """Let what has been seen count less by the time `rows` more rows have come.

    Call it before each update with the number of rows of that update: a row that is
    ``a`` rows old then has the weight ``2 ** (-a / half_life)``. Means, covariances and
    higher moments stay, only masses fall; the effective number of rows tends to ``2
    half_life / log 2``, about 2.9 half-lives, of which :func:`finish` takes note in
    shrinkage.

    Args:
        state: What has been seen.
        rows: Rows that are about to be added (or time, in the units of `half_life`).
        half_life: After how many rows a row counts half.

    Returns:
        The state, with less mass.

    Raises:
        ValueError: If `half_life` is not positive or `rows` negative.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer.moments import init, update
        >>> state = update(init(1, n_classes=1), jnp.ones((4, 1)), jnp.zeros(4, int))
        >>> forget(state, 100, half_life=100).mass.tolist()
        [2.0]
    """
    if not isinstance(half_life, jax.Array) and not half_life > 0:
        raise ValueError(f"half_life={half_life!r} must be above 0.")
    if not isinstance(rows, jax.Array) and rows < 0:
        raise ValueError(f"rows={rows!r} must be at least 0.")
    share = jnp.exp2(-jnp.asarray(rows / half_life, state.mass.dtype))
    return dataclasses.replace(
        state, mass=share * state.mass, squares=share**2 * state.squares
    )


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GapWatch:
    """What :func:`watch_gap` remembers: how the gap of a window varies by chance.

    Attributes:
        gaps: ``[m]`` gaps of simulated windows of the reference population, sorted.
        alpha: ``[]`` false-alarm rate of one look.
    """

    gaps: Float[Array, " m"]
    alpha: Float[Array, ""]

    @property
    def threshold(self) -> Float[Array, ""]:
        """The gap above which a window is an alarm, ``[]``."""
        m = self.gaps.shape[0]
        # The (m + 1)(1 - alpha)-th smallest of m: of m + 1 exchangeable gaps, a new one
        # is above it with probability at most alpha.
        place = jnp.ceil((m + 1) * (1 - self.alpha) - 1e-4).astype(int) - 1
        return self.gaps[jnp.clip(place, 0, m - 1)]

    def p_value(self, gap: Float[Array, ""]) -> Float[Array, ""]:
        """Return the share of gaps, the new one included, that are as large, ``[]``."""
        return (1 + jnp.sum(self.gaps >= gap)) / (self.gaps.shape[0] + 1)

    def alarm(self, gap: Float[Array, ""]) -> Bool[Array, ""]:
        """Tell whether a window's gap is one that chance explains with `alpha` only."""
        return self.p_value(gap) <= self.alpha * (1 + 1e-6)


def watch_gap(
    key: Key[Array, ""],
    pop: Population,
    rows: int,
    *,
    fitted_rows: int | None = None,
    alpha: float = 0.01,
    n_windows: int = 399,
    **options: Any,
) -> GapWatch:
    """Learn how large the ideality gap of a window of rows gets without any drift.

    Windows of `rows` rows are simulated by their sufficient statistics (counts, means
    and Wishart scatters), from the population `pop` as it may be in truth: its own
    moments, with the sampling error of the `fitted_rows` they were taken from. A
    window's gap is then one of ``n_windows + 1`` exchangeable ones, so an alarm is false
    with probability at most `alpha` at each look: exactly where `pop` is known
    (`fitted_rows` None) and its cells are normal, and nearly so where it was fitted.
    Over ``T`` looks expect ``alpha T`` false alarms; pass ``alpha / T`` for one in all.

    The alarm is about the gap alone: a drift that leaves it as it is, or makes it
    smaller, is none.

    Args:
        key: Of the simulation.
        pop: Normal cells, batch ``[K, G]``: a fit of the stream, or the ideal
            population that steered rows should follow.
        rows: Rows of a window, its effective number where it forgets.
        fitted_rows: Rows that `pop` was fitted to, or None if it is known.
        alpha: False-alarm rate of one look.
        n_windows: Windows to simulate; at least ``1 / alpha - 1``.
        options: For :func:`jaxsteer.ideality_gap`, the same as for the windows.

    Returns:
        The watch. Cost `n_windows` solves, all in one program.

    Raises:
        ValueError: If there are too few windows or rows for what is asked, or the
            cells are not normal.

    Example:
        An alarm at a stream whose windows have 2,000 rows::

            watch = watch_gap(jax.random.key(0), pop, 2_000)
            watch.alarm(js.ideality_gap(window))
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha} must be between 0 and 1.")
    if n_windows + 1 < 1 / alpha - 1e-9:
        raise ValueError(
            f"alpha={alpha} needs at least {int(np.ceil(1 / alpha - 1))} windows, "
            f"n_windows={n_windows}; simulate more, or allow more false alarms."
        )
    law = pop.conditionals
    if not isinstance(law, Normal | MultivariateNormal):
        raise ValueError(
            f"pop has cells of {type(law).__name__}; windows are simulated for "
            f"Normal and MultivariateNormal."
        )
    d = 1 if isinstance(law, Normal) else law.mean.shape[-1]
    fewest = float(jnp.min(pop.priors)) * min(rows, fitted_rows or rows)
    if fewest < 2 * (d + 2):
        raise ValueError(
            f"a window of rows={rows} has about {fewest:.0f} rows in its smallest cell; "
            f"{2 * (d + 2)} are needed for {d} features."
        )
    keys = jax.random.split(key, n_windows)
    gaps = _gaps(keys, pop, rows, fitted_rows, tuple(sorted(options.items())))
    return GapWatch(gaps=jnp.sort(gaps), alpha=jnp.asarray(alpha, gaps.dtype))


@partial(jax.jit, static_argnums=(2, 3, 4))
def _gaps(
    keys: Any, pop: Population, rows: int, fitted: int | None, options: Any
) -> Array:
    def one(key: Any) -> Any:
        first, second = jax.random.split(key)
        truth = pop if fitted is None else window_population(first, pop, fitted)
        return ideality_gap(window_population(second, truth, rows), **dict(options))

    return jax.lax.map(one, keys)


def window_population(key: Key[Array, ""], pop: Population, rows: int) -> Population:
    """Draw the population that would be fitted to `rows` rows, without drawing rows.

    Counts are multinomial; given a cell's count ``n``, its mean is normal and its
    maximum-likelihood covariance ``L W L' / n`` with ``W`` Wishart of ``n - 1`` degrees
    of freedom (Bartlett's triangular factor). No shrinkage.

    Args:
        key: Of the draw.
        pop: Normal cells, batch ``[K, G]``.
        rows: Number of rows.
    """
    law: Any = pop.conditionals
    shape = pop.priors.shape
    univariate = isinstance(law, Normal)
    mean = law.loc[..., None] if univariate else law.mean
    d, cells = mean.shape[-1], mean.shape[0] * mean.shape[1]
    dtype = mean.dtype
    keys = jax.random.split(key, 4)
    logits = jnp.log(pop.priors.reshape(-1))
    drawn = jax.random.categorical(keys[0], logits, shape=(rows,))
    count = jnp.zeros(cells, dtype).at[drawn].add(1.0)
    if univariate:
        root = law.scale.reshape(cells, 1, 1)
    else:
        root = cholesky(law.cov.reshape(cells, d, d))
    free = jnp.maximum(count[:, None] - 1 - jnp.arange(d), 1.0)
    diagonal = jnp.sqrt(2 * jax.random.gamma(keys[1], free / 2, dtype=dtype))
    lower = jnp.tril(jax.random.normal(keys[2], (cells, d, d), dtype), -1)
    lower = lower + diagonal[:, :, None] * jnp.eye(d, dtype=dtype)
    factor = matmul(root, lower) / jnp.sqrt(count)[:, None, None]
    noise = jax.random.normal(keys[3], (cells, d), dtype) / jnp.sqrt(count)[:, None]
    mean = mean + einsum("cij,cj->ci", root, noise).reshape(mean.shape)
    priors = (count / rows).reshape(shape)
    if univariate:
        return Population(priors, Normal(mean[..., 0], factor[:, 0, 0].reshape(shape)))
    cov = matmul(factor, transpose(factor)).reshape(*shape, d, d)
    return Population(priors, MultivariateNormal(mean, cov))


def swap_maps(layer: PyTree, maps: PyTree) -> PyTree:
    """Put new maps in the place of old ones without anything being compiled again.

    A jitted function that takes the maps (or a :class:`Steering`) as an argument is
    compiled for their structure, shapes, precision and layout. This gives the new maps
    those of the old, or says why they cannot have them.

    Args:
        layer: The maps in use: any pytree of arrays.
        maps: Those that replace them.

    Returns:
        The new values, in the old ones' precision and on their devices.

    Raises:
        ValueError: If kinds or shapes differ, which would compile anew, or values are
            not finite, as those of a failed solve.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsteer import AffineMap
        >>> old = AffineMap(jnp.eye(2), jnp.zeros(2))
        >>> swap_maps(old, AffineMap(2 * jnp.eye(2), jnp.ones(2))).bias.tolist()
        [1.0, 1.0]
    """
    if jax.tree.structure(layer) != jax.tree.structure(maps):
        raise ValueError(
            f"maps are of another kind ({jax.tree.structure(maps)}) than those in use "
            f"({jax.tree.structure(layer)}); solve with the same maps=..."
        )
    pairs = list(zip(jax.tree.leaves(layer), jax.tree.leaves(maps), strict=True))
    for old, new in pairs:
        if np.shape(old) != np.shape(new):
            raise ValueError(
                f"maps have shape {np.shape(new)} where those in use have "
                f"{np.shape(old)}."
            )
        if not np.isfinite(np.asarray(new)).all():
            raise ValueError(
                "maps are not finite; those in use stay. See the steering's status."
            )

    def like(old: Any, new: Any) -> Any:
        old = jnp.asarray(old)
        return jax.device_put(jnp.asarray(new, old.dtype), old.sharding)

    return jax.tree.map(like, layer, maps)
