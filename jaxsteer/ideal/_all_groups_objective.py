"""All groups move: the divergence as a function of the groups' matrices alone.

Given matrices ``T_a`` from a template to each group, the best template and shifts are
closed form: ``Lambda_i = sum_a w_ia T_a' P_ia T_a``, covariance ``S_i = W_i
Lambda_i^-1`` with ``W_i = sum_a w_ia``, and means and shifts by weighted least squares.
What is left is ``sum_i W_i/2 logdet(Lambda_i / W_i) + sum_ia w_ia/2 |r_ia|^2_{P_ia} -
sum_ia w_ia log|det T_a|`` with the residuals ``r_ia = T_a m_i + c_a - mu_ia``. Its
gradients follow from the envelope theorem: the template counts as constant.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Bool, Float
from jaxsteer.families import MultivariateNormal
from jaxsteer.ideal._affirmative_objective import precision_matrices
from jaxsteer.linalg import (
    einsum,
    identity_like,
    inverse_and_logdet_psd,
    matmul,
    matvec,
    solve,
    solve_definite,
    transpose,
)
from jaxsteer.solvers import Expansion


class Template(NamedTuple):
    """The best template for given matrices.

    Attributes:
        mean: ``[K, d]``.
        cov: ``[K, d, d]``.
        shift: ``[G, d]`` shifts of the groups.
        gap: ``[K, G, d]`` by how much the moved means miss the groups'.
        spread: ``[]`` twice the part of the divergence that the covariances make.
    """

    mean: Array
    cov: Array
    shift: Array
    gap: Array
    spread: Array


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AllGroupsObjective:
    """Objective over the matrices ``[G, d, d]`` of all groups.

    It does not change when all matrices are multiplied by one from the right; a search
    holds the reference group's, or pins the template.

    Attributes:
        precision: ``[K, G, d, d]`` weighted precisions ``w_ia P_ia`` of the cells.
        center: ``[G, d]`` means of the groups' cells, weighted by them.
        mean: ``[K, G, d]`` means of the cells, from these.
        total_inverse: ``[G, d, d]`` inverses of the sums over classes of `precision`.
        weight: ``[K, G]`` weights.
        pivot: ``[]`` the class that a pinned template is pinned in.
        pinned: ``[]`` whether that class's template covariance is the identity.
    """

    precision: Float[Array, "K G d d"]
    center: Float[Array, "G d"]
    mean: Float[Array, "K G d"]
    total_inverse: Float[Array, "G d d"]
    weight: Float[Array, "K G"]
    pivot: Array
    pinned: Bool[Array, ""]

    @property
    def log_weight(self) -> Float[Array, " G"]:
        """Weights of the log-determinants."""
        return jnp.sum(self.weight, 0)

    @property
    def output_metric(self) -> Float[Array, "G d d"]:
        """Sums over classes of the weighted precisions: the metrics mapped into."""
        return jnp.sum(self.precision, 0)

    def input_moment(self, x: Float[Array, "G d d"]) -> Float[Array, "G d d"]:
        """Weighted mean of the template's covariances and of its means' products."""
        found = self.template(x)
        share = self.weight / jnp.sum(self.weight, 0)
        return einsum("ka,kij->aij", share, self._second(found))

    def pinned_if(self, flag: Bool[Array, ""]) -> AllGroupsObjective:
        """The objective with its template pinned or not."""
        return dataclasses.replace(self, pinned=flag)

    def template(self, x: Float[Array, "G d d"]) -> Template:
        """The best template: O(K G d^3), and one system of the fewer unknown means."""
        k, n_groups, d = self.mean.shape
        total = jnp.sum(self.weight, 1)
        pulled = einsum("kaij,ajl->kail", self.precision, x)
        gram = einsum("kaji,ajl->kil", pulled, x)
        inverse, size = inverse_and_logdet_psd(gram)
        if k <= n_groups:
            mean = self._means_by_class(gram, pulled)
        else:
            mean = self._means_by_group(inverse, pulled)
        # The best shifts, from the groups' centers.
        pull = jnp.sum(matvec(pulled, mean[:, None]), 0)
        away = matvec(self.total_inverse, pull)
        moved = matvec(x[None], mean[:, None])
        gap = moved - away[None] - self.mean
        here = self.pinned & (jnp.arange(k) == self.pivot)
        free_spread = total * (size - d * jnp.log(total))
        held_spread = jnp.trace(gram, axis1=-2, axis2=-1) - total * d
        identity = jnp.eye(d, dtype=x.dtype)[None]
        cov = total[:, None, None] * inverse
        return Template(
            mean=mean,
            cov=jnp.where(here[:, None, None], identity, cov),
            shift=self.center - away,
            gap=gap,
            spread=jnp.sum(jnp.where(here, held_spread, free_spread)),
        )

    def _means_by_class(self, gram: Array, pulled: Array) -> Float[Array, "K d"]:
        """Template means, the first one 0, from ``(K - 1) d`` equations.

        ``sum_j (delta_ij Lambda_i - sum_a B_ia' C_a B_ja) m_j = sum_a B_ia' mu_ia`` with
        ``B_ia = w_ia P_ia T_a`` and ``C_a`` the inverse of ``sum_i w_ia P_ia``.
        """
        k, _, d = self.mean.shape
        right = einsum("kaij,kai->kj", pulled, self.mean)
        zero = jnp.zeros_like(right[:1])
        if k == 1:
            return zero
        solved = einsum("aij,kajl->kail", self.total_inverse, pulled[1:])
        system = -einsum("kaij,lain->kjln", pulled[1:], solved)
        index = jnp.arange(k - 1)
        system = system.at[index, :, index].add(gram[1:])
        size = (k - 1) * d
        found = solve_definite(system.reshape(size, size), right[1:].reshape(size, 1))
        return jnp.concatenate([zero, found.reshape(k - 1, d)])

    def _means_by_group(self, inverse: Array, pulled: Array) -> Float[Array, "K d"]:
        """The same from ``(G - 1) d`` equations for shifts; the first group's is 0.

        ``sum_b (delta_ab S_a - sum_i B_ia Lambda_i^-1 B_ib') c_b = sum_i w_ia P_ia (mu_ia
        - T_a t_i)`` with ``t_i = Lambda_i^-1 sum_a B_ia' mu_ia``.
        """
        _, n_groups, d = self.mean.shape
        gains = einsum("kij,kalj->kial", inverse, pulled)
        target = einsum("kial,kal->ki", gains, self.mean)
        pull = einsum("kaij,kaj->ai", self.precision, self.mean)
        pull = pull - einsum("kaij,kj->ai", pulled, target)
        system = -einsum("kail,klbj->aibj", pulled[:, 1:], gains[:, :, 1:])
        index = jnp.arange(n_groups - 1)
        system = system.at[index, :, index].add(self.output_metric[1:])
        size = (n_groups - 1) * d
        shift = solve_definite(
            system.reshape(size, size), pull[1:].reshape(size, 1)
        ).reshape(n_groups - 1, d)
        return target - einsum("kial,al->ki", gains[:, :, 1:], shift)

    def _second(self, found: Template) -> Float[Array, "K d d"]:
        """Second moments of the template's classes around the mean of all."""
        total = jnp.sum(self.weight, 1)
        centered = found.mean - (total @ found.mean / jnp.sum(total))[None]
        return found.cov + centered[:, :, None] * centered[:, None, :]

    def value(self, x: Float[Array, "G d d"]) -> Float[Array, ""]:
        """The objective but for its log-determinants of the matrices."""
        found = self.template(x)
        pull = matvec(self.precision, found.gap)
        return 0.5 * (found.spread + jnp.sum(found.gap * pull))

    def _slope(self, x: Array, found: Template) -> Array:
        moved = einsum("aij,kjl->kail", x, found.cov)
        moved = moved + found.gap[..., :, None] * found.mean[:, None, None, :]
        return einsum("kaij,kajl->ail", self.precision, moved)

    def gradient(self, x: Float[Array, "G d d"]) -> Float[Array, "G d d"]:
        """Its gradient by the matrices."""
        return self._slope(x, self.template(x))

    def expand(
        self, left: Float[Array, "G d d"], right: Float[Array, "G d d"]
    ) -> Expansion:
        """Gradient, second derivative, and the curvature with the template held."""

        def gradient(e: Array):
            x = matmul(left, matmul(e, right))
            found = self.template(x)
            slope = self._slope(x, found)
            pulled = matmul(slope, transpose(right))
            return matmul(transpose(left), pulled), found

        start = identity_like(left)
        slope, second, found = jax.linearize(gradient, start, has_aux=True)
        moment = self._second(found)
        rows = jnp.sum(einsum("aij,kjl->kail", right, moment) * right[None], -1)
        turned = einsum("kaij,ajl->kail", self.precision, left)
        columns = jnp.sum(turned * left[None], -2)
        return Expansion(
            gradient=slope,
            second=second,
            curvature=einsum("kai,kaj->aij", columns, rows),
        )

    def in_reference_coordinates(
        self, x: Float[Array, "G d d"]
    ) -> tuple[MultivariateNormal, Array, Array]:
        """The template as the first group sees it, and the maps from there.

        Returns:
            The template, batch ``[K]``, matrices ``[G, d, d]`` and shifts ``[G, d]``;
            the first group's are the identity and 0.
        """
        found = self.template(x)
        home = x[0]
        mean = matmul(found.mean, transpose(home)) + found.shift[:1]
        cov = matmul(home, matmul(found.cov, transpose(home)))
        back = relative_to_first(x)
        shift = found.shift - matmul(back, found.shift[0][None, :, None])[..., 0]
        identity = jnp.eye(home.shape[-1], dtype=home.dtype)
        return (
            MultivariateNormal(mean, cov),
            back.at[0].set(identity),
            shift.at[0].set(0.0),
        )


def relative_to_first(x: Float[Array, "G d d"]) -> Float[Array, "G d d"]:
    """``T_a T_0^-1``."""
    turned = jnp.broadcast_to(transpose(x[0]), x.shape)
    return transpose(solve(turned, transpose(x)))


def all_groups_objective(
    cells: MultivariateNormal, weights: Float[Array, "K G"], pivot: Any
) -> AllGroupsObjective:
    """Prepare the objective: O(K G d^3).

    Args:
        cells: The source's cells, batch ``[K, G]``.
        weights: ``[K, G]`` new priors.
        pivot: The class that a pinned template is pinned in.
    """
    precision = weights[..., None, None] * precision_matrices(cells.cov)
    total_inverse, _ = inverse_and_logdet_psd(jnp.sum(precision, 0))
    pull = einsum("kaij,kaj->ai", precision, cells.mean)
    center = matvec(total_inverse, pull)
    return AllGroupsObjective(
        precision=precision,
        center=center,
        mean=cells.mean - center[None],
        total_inverse=total_inverse,
        weight=weights,
        pivot=jnp.asarray(pivot, jnp.int32),
        pinned=jnp.asarray(False),
    )
