"""``certificate``: what a steering promises about the population it started from."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsteer._compilation import broadcasting
from jaxsteer._errors import is_concrete
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float
from jaxsteer.audit._bayes_normal import heavier
from jaxsteer.audit._bayes_quadrature import region_masses
from jaxsteer.audit._bayes_rule import base_cells, line_costs, shares_in_group
from jaxsteer.families import Normal, kl_divergence
from jaxsteer.linalg import relative_entropy
from jaxsteer.population import Population, check_population
from jaxsteer.steering import Steering


def variation_bound(kl: Float[Array, "..."]) -> Float[Array, "..."]:
    """``min(sqrt(KL / 2), sqrt(1 - exp(-KL)))``, at least the total variation.

    References:
        Pinsker's inequality; Bretagnolle and Huber 1979.
    """
    kl = jnp.maximum(kl, 0.0)
    return jnp.sqrt(jnp.minimum(kl / 2, -jnp.expm1(-kl)))


def excess_mass(
    first: Any,
    second: Any,
    first_weight: Float[Array, "K G"],
    second_weight: Float[Array, "K G"],
    *,
    nodes: int,
) -> Float[Array, "K G"]:
    """``integral (second_weight second - first_weight first)_+``, cell by cell.

    With weights 1 this is the total variation. Exact for normals, by quadrature for
    other univariate families.
    """
    if isinstance(first, Normal):
        region = heavier(first, second, first_weight, second_weight)
        masses = region.mass(second), region.mass(first)
    else:
        # Every cell is a problem of its own: two laws, batch [2, K G].
        both = jax.tree.map(
            lambda a, b: jnp.stack([a, b]).reshape(2, -1, *a.shape[2:]), first, second
        )
        weights = jnp.stack([first_weight, second_weight]).reshape(2, -1)
        scores = line_costs(both, weights, 1 - jnp.eye(2, dtype=weights.dtype))
        chosen = region_masses(scores, both, [both], nodes=nodes)[1]
        chosen = chosen.reshape(2, *first_weight.shape)
        masses = chosen[1], chosen[0]
    return second_weight * masses[0] - first_weight * masses[1]


def mixture_variation(
    first: Any,
    second: Any,
    first_share: Float[Array, "K G"],
    second_share: Float[Array, "K G"],
    *,
    nodes: int,
) -> Float[Array, " G"]:
    """Total variation of the groups' mixtures over classes, by quadrature.

    Args:
        first: Univariate cells, batch ``[K, G]``.
        second: Cells of the same family.
        first_share: ``[K, G]``, columns that sum to 1.
        second_share: Likewise.
        nodes: Grid nodes for each cell.
    """
    cells = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    shares = jnp.concatenate([first_share, second_share])
    k = len(first_share)
    # Predicting one mixture is wrong where the other one is true.
    cost = jnp.repeat(1 - jnp.eye(2, dtype=shares.dtype), k, axis=1)
    scores = line_costs(cells, shares, cost)
    masses = region_masses(scores, cells, [cells], nodes=nodes)
    signed = jnp.concatenate([-first_share, second_share])
    return jnp.maximum(jnp.sum(signed * masses[1], 0), 0.0)


# Grid nodes for each cell: decisions on selection change in few places, which the
# quadrature finds between nodes too.
NODES = 32


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    """Bounds on how the ideal population's Bayes rule fares on the one given.

    ``h~`` is the Bayes rule, for any cost, of the target ``D~``; ``D`` is the source.
    Names say what holds. ``safe_*``: valid always, from KL divergences. ``exact_*``:
    valid always, tighter, from total variations computed exactly (one feature only,
    else None). ``paper_*``: as stated in the paper; of these the one on error is valid
    and looser than the safe one, and the one on equal opportunity is NOT valid where
    cells are small: it is kept for comparison only.

    All are bounds, of which the smallest may be far above what happens, and none
    promises that ``D`` itself becomes fair. Those on gaps are infinite where the target
    is not ideal (``priors="keep"``).

    Attributes:
        kl: ``[]`` KL divergence of ``D~`` from ``D``, nats.
        safe_variation: ``[]``, at least the total variation of ``D~`` and ``D``:
            ``min(sqrt(kl / 2), sqrt(1 - exp(-kl)))``.
        exact_variation: ``[]`` that total variation.
        safe_error: ``[]``, at least ``|err(h~, D) - err(h~, D~)|`` (so it is for any
            rule at all): `safe_variation`.
        exact_error: ``[]``, likewise: `exact_variation`.
        paper_error: ``[]``, ``sqrt(2 kl)``; valid, looser.
        safe_rates: ``[K]``, at least the largest difference between two groups in
            ``P(h~ = j | Y = i)``, any ``j``, on ``D``; for two classes entry 1 bounds
            the gap of equal opportunity, both together equalized odds. The two groups'
            bounds on the variation of their cells of class ``i``, added up.
        exact_rates: ``[K]``, likewise, from total variations.
        paper_equal_opportunity: ``[]``, ``sqrt(8 kl)``. NOT valid in general.
        safe_selection: ``[]``, at least the largest difference between two groups in
            ``P(h~ = j)`` on ``D`` (demographic parity).
        exact_selection: ``[]``, likewise, from total variations.
    """

    kl: Float[Array, ""]
    safe_variation: Float[Array, ""]
    exact_variation: Float[Array, ""] | None
    safe_error: Float[Array, ""]
    exact_error: Float[Array, ""] | None
    paper_error: Float[Array, ""]
    safe_rates: Float[Array, " K"]
    exact_rates: Float[Array, " K"] | None
    paper_equal_opportunity: Float[Array, ""]
    safe_selection: Float[Array, ""]
    exact_selection: Float[Array, ""] | None

    def summary(self) -> str:
        """Say in words what each bound promises; for one certificate, not a batch."""
        rows = [
            ("error changes by at most", self.safe_error, self.exact_error),
            (
                "rates within a true class differ between groups by at most",
                jnp.max(self.safe_rates),
                None if self.exact_rates is None else jnp.max(self.exact_rates),
            ),
            (
                "selection rates differ between groups by at most",
                self.safe_selection,
                self.exact_selection,
            ),
        ]
        lines = [
            f"The target's Bayes rule, for any cost, on the source (KL "
            f"{float(self.kl):.4g} nats):"
        ]
        for promise, safe, exact in rows:
            tight = "" if exact is None else f", {float(exact):.4g} (exact)"
            lines.append(f"  {promise} {float(safe):.4g} (safe){tight}: valid")
        lines += [
            f"  paper's bound on error sqrt(2 KL) = {float(self.paper_error):.4g}: valid "
            "but looser",
            f"  paper's bound on equal opportunity sqrt(8 KL) = "
            f"{float(self.paper_equal_opportunity):.4g}: NOT valid for small cells",
            "A bound of 1 or more says nothing. Exact fairness holds on the target only.",
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        """The summary, or the fields of a batch."""
        one = is_concrete(self.kl) and jnp.ndim(self.kl) == 0
        return self.summary() if one else repr(self)


@broadcasting
def certificate(steering: Steering) -> Certificate:
    """Bound what the target's Bayes rule does on the source, in error and in gaps.

    The rule's outcomes differ between the two populations by no more than the total
    variation of the laws that it acts on, and on an ideal target the groups' outcomes
    are equal: the gap on the source is at most the two groups' variations together.

    Args:
        steering: From :func:`jaxsteer.nearest_ideal`.

    Returns:
        The certificate; read its field names, which say what holds. Exact variations
        are closed forms for univariate normals, but for selection rates, which take a
        quadrature.

    Raises:
        ValueError: For a channel, whose target is in other coordinates than its source.

    Example:
        >>> import jax.numpy as jnp, jaxsteer as js
        >>> cells = js.Normal(jnp.array([[0.0, 0.0], [1.0, 2.0]]), jnp.ones((2, 2)))
        >>> pop = js.Population(jnp.full((2, 2), 0.25), cells)
        >>> bounds = js.certificate(js.nearest_ideal(pop, reference=1))
        >>> round(float(bounds.safe_error), 3), round(float(bounds.exact_error), 3)
        (0.146, 0.081)

    References:
        arXiv 2509.15759, proposition 4.4, for the bounds named after the paper.
    """
    if not isinstance(steering, Steering):
        raise ValueError(
            f"steering must be a jaxsteer.Steering, got {type(steering).__name__}; it is "
            f"what jaxsteer.nearest_ideal returns."
        )
    if steering.noise is not None:
        raise ValueError(
            "a channel has no certificate: its target is not in the coordinates of its "
            "source; measure the steered data with jaxsteer.metrics."
        )
    check_population(steering.source)
    return _certificate(steering.source, steering.target, ideal=steering.ideal)


@partial(jax.jit, static_argnames="ideal")
def _certificate(source: Population, target: Population, *, ideal: bool) -> Certificate:
    old, new = base_cells(source.conditionals), base_cells(target.conditionals)
    cell_kl = kl_divergence(new.law, old.law)
    prior_parts = relative_entropy(target.priors, source.priors)
    used = target.priors > 0
    kl = jnp.sum(prior_parts + jnp.where(used, target.priors * cell_kl, 0.0))
    kl = jnp.maximum(kl, 0.0)

    old_share, new_share = (
        shares_in_group(source.priors),
        shares_in_group(target.priors),
    )
    share_kl = jnp.sum(relative_entropy(new_share, old_share), 0)
    share_kl = share_kl + jnp.sum(jnp.where(used, new_share * cell_kl, 0.0), 0)
    safe_variation = variation_bound(kl)

    exact_variation = exact_rates = exact_selection = None
    if old.on_line:
        ones = jnp.ones_like(source.priors)
        pair = (old.law, new.law)
        cells = excess_mass(*pair, ones, ones, nodes=NODES)
        parts = excess_mass(*pair, source.priors, target.priors, nodes=NODES)
        exact_variation = jnp.sum(parts)
        exact_rates = _worst_pair(jnp.maximum(cells, 0.0), ideal)
        mixed = mixture_variation(*pair, old_share, new_share, nodes=NODES)
        exact_selection = _worst_pair(mixed, ideal)
    return Certificate(
        kl=kl,
        safe_variation=safe_variation,
        exact_variation=exact_variation,
        safe_error=safe_variation,
        exact_error=exact_variation,
        paper_error=jnp.sqrt(2 * kl),
        safe_rates=_worst_pair(variation_bound(cell_kl), ideal),
        exact_rates=exact_rates,
        paper_equal_opportunity=jnp.sqrt(8 * kl),
        safe_selection=_worst_pair(variation_bound(share_kl), ideal),
        exact_selection=exact_selection,
    )


def _worst_pair(variation: Float[Array, "... G"], ideal: bool) -> Float[Array, "..."]:
    """The largest sum over two groups; no bound where the target is not ideal."""
    if not ideal:
        return jnp.full(variation.shape[:-1], jnp.inf, variation.dtype)
    largest = jnp.sort(variation, -1)
    return largest[..., -1] + largest[..., -2]
