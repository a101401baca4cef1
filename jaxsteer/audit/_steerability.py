"""Equal steerability: does the steering do the same for every group, at the same cost?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsteer._errors import check_choice, check_codes, check_finite, is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Key
from jaxsteer.audit._bootstrap import Interval, interval, row_multiplicities

__all__ = ["Steerability", "steerability"]


@register_dataclass
@dataclass(frozen=True, kw_only=True)
class Steerability:
    """What a steering did to each group, with intervals.

    Differences are signed, a group's figure less that of the reference group; a gap is
    the largest figure of a group less the smallest, and never negative, so that its
    interval lies above 0 even where all groups are alike: test equality by differences.

    Attributes:
        effect: Mean effect of each group `[G]`.
        wrong: Share that was steered the wrong way, an effect below 0, `[G]`.
        cost: Mean cost `[G]`, None where none was given.
        effect_difference: Of the mean effects `[G]`, 0 for the reference group.
        wrong_difference: Of the shares, likewise.
        cost_difference: Of the mean costs, or None.
        effect_gap: Largest less smallest mean effect.
        wrong_gap: Likewise of the shares.
        cost_gap: Likewise of the costs, or None.
    """

    effect: Interval
    wrong: Interval
    cost: Interval | None
    effect_difference: Interval
    wrong_difference: Interval
    cost_difference: Interval | None
    effect_gap: Interval
    wrong_gap: Interval
    cost_gap: Interval | None


def steerability(
    effect: ArrayLike,
    cost: ArrayLike | None,
    group: ArrayLike,
    *,
    key: Key[Array, ""],
    reference: int = 0,
    n_boot: int = 1000,
    level: float = 0.95,
    n_groups: int | None = None,
) -> Steerability:
    """Compare groups by what a steering did to them.

    Intervals are percentile intervals over prompts and seeds, both drawn with
    replacement, each seed with all its prompts and each prompt with all its seeds: what
    the seeds share is not counted as news. With few seeds (fewer than about 5) the
    spread between seeds is barely seen, and intervals are too short.

    Args:
        effect: How far each prompt was moved the intended way, `[n]` or `[S, n]` for `S`
            seeds: steered less unsteered, 0 for no effect, below 0 for the wrong way.
        cost: What it cost, such as the rise of the negative log-likelihood or the KL
            divergence of the next-token law, in the same shape; or None.
        group: Group codes of the prompts, `[n]`.
        key: A key of `jax.random.key`; the same key gives the same intervals.
        reference: The group that differences are taken against.
        n_boot: Number of resamples, at least 2.
        level: Probability that an interval should hold, between 0 and 1.
        n_groups: G; None takes the largest code plus one.

    Returns:
        The figures; `Interval.smallest_cell` is the number of prompts.

    Raises:
        ValueError: If shapes, codes, values or options are unusable, or a group has no
            prompt.

    Example:
        >>> import jax, numpy as np
        >>> effect = np.tile([1.0, 1.0, 0.5, -0.5], 20)
        >>> group = np.tile([0, 0, 1, 1], 20)
        >>> found = steerability(effect, None, group, key=jax.random.key(0))
        >>> found.effect.value.tolist(), found.wrong.value.tolist()
        ([1.0, 0.0], [0.0, 0.5])
        >>> bool(found.effect_difference.high[1] < 0)
        True

    References:
        Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), for
        resampling rows and columns of a crossed design.
    """
    size = check_codes("group", group, n_groups)
    group = jnp.asarray(group)
    if group.ndim != 1:
        raise ValueError(f"group has shape {group.shape}, expected [n].")
    check_choice("reference", reference, range(size))
    if not isinstance(n_boot, int) or n_boot < 2:
        raise ValueError(f"n_boot={n_boot!r} must be a whole number, at least 2.")
    if not 0 < level < 1:
        raise ValueError(f"level={level!r} must be between 0 and 1.")
    counts = jnp.zeros(size, jnp.int32).at[group].add(1)
    if is_concrete(counts) and (np.asarray(counts) == 0).any():
        empty = np.flatnonzero(np.asarray(counts) == 0).tolist()
        raise ValueError(f"The groups {empty} have no prompt; leave them out.")
    seeds = _by_seed("effect", effect, group)
    values = {"effect": seeds, "wrong": (seeds < 0).astype(seeds.dtype)}
    if cost is not None:
        values["cost"] = _by_seed("cost", cost, group)
        if values["cost"].shape != seeds.shape:
            raise ValueError(
                f"effect has shape {np.shape(effect)} and cost {np.shape(cost)}; give "
                f"both for the same seeds and prompts."
            )
    # Sorted, as a jitted function takes them.
    values = dict(sorted(values.items()))
    found = _intervals(
        values, group, counts, key, level, reference, n_boot=n_boot, size=size
    )
    names = ("effect", "wrong", "cost")
    fields = {n + end: None for n in names for end in ("", "_difference", "_gap")}
    return Steerability(**{**fields, **found})


def _by_seed(name: str, values: ArrayLike, group: Array) -> Array:
    check_finite(name, values)
    array = jnp.asarray(values, float)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1:] != group.shape or not array.size:
        raise ValueError(
            f"{name} has shape {np.shape(values)}, expected [n] or [S, n] with n = "
            f"{len(group)}, one entry a prompt."
        )
    return array


@partial(jax.jit, static_argnames=("n_boot", "size"))
def _intervals(
    values: dict[str, Array],
    group: Array,
    counts: Array,
    key: Array,
    level: Array,
    reference: Array,
    *,
    n_boot: int,
    size: int,
):
    hot = jax.nn.one_hot(group.astype(jnp.int32), size)
    n_seeds, n = values["effect"].shape

    tables = jnp.stack(list(values.values()))

    def figures(seed_weight: Array, prompt_weight: Array):
        weights = prompt_weight[:, None] * hot
        mass = jnp.sum(weights, 0)
        shares = seed_weight / jnp.sum(seed_weight)
        sums = jnp.einsum("s,vsn,ng->vg", shares, tables, weights)
        # A group that a resample left out is undefined there.
        means = jnp.where(mass > 0, sums / mass, jnp.nan)
        gaps = jnp.max(means, 1) - jnp.min(means, 1)
        differences = means - means[:, reference, None]
        return jnp.concatenate([means, differences, gaps[:, None]], axis=1)

    def resample(key: Array):
        seed_key, prompt_key = jax.random.split(key)
        return figures(
            row_multiplicities(seed_key, n_seeds), row_multiplicities(prompt_key, n)
        )

    replicates = jax.lax.map(resample, jax.random.split(key, n_boot), batch_size=64)
    pairs = jnp.minimum(counts, counts[reference])
    cells = jnp.concatenate([counts, pairs, jnp.min(counts, keepdims=True)])
    point = figures(jnp.ones(n_seeds), jnp.ones(n))
    cells = jnp.broadcast_to(cells, point.shape)
    # One program for all figures; sorting each apart would compile nine times.
    whole = interval(point, replicates, level, cells)
    parts = {"": slice(0, size), "_difference": slice(size, 2 * size), "_gap": -1}
    return {
        name + end: jax.tree.map(lambda leaf, i=row, p=part: leaf[i, p], whole)
        for row, name in enumerate(values)
        for end, part in parts.items()
    }
