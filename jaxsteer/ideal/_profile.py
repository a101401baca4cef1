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

import jax.numpy as jnp

from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, Float
from jaxsteer.families import MultivariateNormal
from jaxsteer.ideal._mismatch import precision_matrices
from jaxsteer.linalg import (
    einsum,
    logdet_from_cholesky,
    solve_psd,
    transpose,
)


class Template(NamedTuple):
    """The best template for given matrices.

    Attributes:
        mean: ``[K, d]``.
        cov: ``[K, d, d]``.
        shift: ``[G, d]`` shifts of the groups, 0 for the reference.
        factor: ``[K, d, d]`` Cholesky factors of ``Lambda_i``.
    """

    mean: Array
    cov: Array
    shift: Array
    factor: Array


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """Objective over matrices ``[g, d, d]`` of the groups that move.

    Attributes:
        precision: ``[K, G, d, d]`` weighted precisions ``w_ia P_ia`` of the cells.
        mean: ``[K, G, d]`` means of the cells.
        weight: ``[K, G]`` weights.
        reference: The group whose shift is 0 and, without a pivot, whose matrix is the
            identity.
        pivot: A class whose template covariance is held at the identity; then every
            group has a matrix (``g = G``). None: ``g = G - 1``.
    """

    precision: Float[Array, "K G d d"]
    mean: Float[Array, "K G d"]
    weight: Float[Array, "K G"]
    reference: int = dataclasses.field(metadata={"static": True})
    pivot: Any = None

    @property
    def moving(self) -> list[int]:
        """The groups that have a matrix."""
        n_groups = self.weight.shape[1]
        fixed = None if self.pivot is not None else self.reference
        return [a for a in range(n_groups) if a != fixed]

    @property
    def log_weight(self) -> Float[Array, " g"]:
        """Weights of the log-determinants."""
        return jnp.sum(self.weight, 0)[jnp.array(self.moving)]

    @property
    def rows(self) -> Float[Array, "g d d"]:
        """Sums over classes of the weighted precisions of the groups that move."""
        return jnp.sum(self.precision, 0)[jnp.array(self.moving)]

    def matrices(self, x: Float[Array, "g d d"]) -> Float[Array, "G d d"]:
        """All groups' matrices."""
        if self.pivot is not None:
            return x
        identity = jnp.eye(x.shape[-1], dtype=x.dtype)[None]
        return jnp.concatenate([x[: self.reference], identity, x[self.reference :]])

    def template(self, x: Float[Array, "g d d"]) -> Template:
        """The best template: O(K G^2 d^3)."""
        matrix = self.matrices(x)
        n_groups, d = matrix.shape[:2]
        total = jnp.sum(self.weight, 1)[:, None, None]
        pulled = einsum("kaij,ajl->kail", self.precision, matrix)
        gram = einsum("kaji,ajl->kil", pulled, matrix)
        factor = jnp.linalg.cholesky(gram)
        # One stacked solve: Lambda^-1 [T_a' P_a for every a, I].
        identity = jnp.broadcast_to(jnp.eye(d, dtype=x.dtype), gram.shape)
        side = jnp.concatenate(
            [*(transpose(pulled[:, a]) for a in range(n_groups)), identity], -1
        )
        solved = solve_psd(factor, side)
        inverse = solved[..., n_groups * d :]
        gains = solved[..., : n_groups * d].reshape(len(gram), d, n_groups, d)
        target = einsum("kjal,kal->kj", gains, self.mean)
        fitted = einsum("aij,kj->kai", matrix, target)
        pull = einsum("kaij,kaj->ai", self.precision, self.mean - fitted)
        others = jnp.array([a for a in range(n_groups) if a != self.reference])
        # (sum_i [delta_ab w P_ia - w P_ia T_a Lambda_i^-1 T_b' P_ib w]) c_b = pull_a
        across = einsum("kail,klbj->aibj", pulled, gains)
        own = jnp.sum(self.precision, 0)
        system = -across[others][:, :, others]
        index = jnp.arange(n_groups - 1)
        system = system.at[index, :, index].add(own[others])
        size = (n_groups - 1) * d
        flat = system.reshape(size, size)
        shift = jnp.linalg.solve(flat, pull[others].reshape(size))
        shift = jnp.zeros((n_groups, d), x.dtype).at[others].set(shift.reshape(-1, d))
        mean = target - einsum("kjal,al->kj", gains, shift)
        cov = total * inverse
        if self.pivot is not None:
            cov = cov.at[self.pivot].set(jnp.eye(d, dtype=x.dtype))
        return Template(mean, cov, shift, factor)

    def _gaps(self, matrix: Array, found: Template) -> Array:
        return einsum("aij,kj->kai", matrix, found.mean) + found.shift - self.mean

    def columns(self, x: Float[Array, "g d d"]) -> Float[Array, "g d d"]:
        """Weighted mean of the template's covariances and of its means' products."""
        second = self._second(self.template(x))
        share = self.weight / jnp.sum(self.weight, 0)
        return einsum("ka,kij->aij", share[:, jnp.array(self.moving)], second)

    def _second(self, found: Template) -> Float[Array, "K d d"]:
        """Second moments of the template's classes around the mean of all."""
        total = jnp.sum(self.weight, 1)
        centered = found.mean - (total @ found.mean) / jnp.sum(total)
        return found.cov + centered[:, :, None] * centered[:, None, :]

    def value(self, x: Float[Array, "g d d"]) -> Float[Array, ""]:
        """The objective but for its log-determinants of the matrices."""
        found, matrix = self.template(x), self.matrices(x)
        d = x.shape[-1]
        total = jnp.sum(self.weight, 1)
        gaps = self._gaps(matrix, found)
        spread = total * (logdet_from_cholesky(found.factor) - d * jnp.log(total))
        if self.pivot is not None:
            trace = jnp.sum(found.factor[self.pivot] ** 2)
            spread = spread.at[self.pivot].set(trace - total[self.pivot] * d)
        distance = einsum("kai,kaij,kaj->", gaps, self.precision, gaps)
        return 0.5 * (jnp.sum(spread) + distance)

    def gradient(self, x: Float[Array, "g d d"]) -> Float[Array, "g d d"]:
        """Its gradient by the matrices that move."""
        found, matrix = self.template(x), self.matrices(x)
        gaps = self._gaps(matrix, found)
        moved = einsum("aij,kjl->kail", matrix, found.cov)
        moved = moved + gaps[..., :, None] * found.mean[:, None, None, :]
        slopes = einsum("kaij,kajl->ail", self.precision, moved)
        return slopes[jnp.array(self.moving)]

    def curvature(
        self, left: Float[Array, "g d d"], right: Float[Array, "g d d"], x: Array
    ) -> Float[Array, "g d d"]:
        """About the second derivative along ``T + left e right``, template held."""
        second = self._second(self.template(x))
        rows = jnp.sum(einsum("aij,kjl->kail", right, second) * right, -1)
        turned = einsum(
            "kaij,ajl->kail", self.precision[:, jnp.array(self.moving)], left
        )
        columns = jnp.sum(turned * left, -2)
        return einsum("kai,kaj->aij", columns, rows)


def profile(
    cells: MultivariateNormal,
    weights: Float[Array, "K G"],
    reference: int,
    pivot: Any = None,
) -> Profile:
    """Prepare the objective: O(K G d^3)."""
    precision = weights[..., None, None] * precision_matrices(cells.cov)
    return Profile(
        precision=precision,
        mean=cells.mean,
        weight=weights,
        reference=reference,
        pivot=pivot,
    )
