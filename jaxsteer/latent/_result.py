"""``RomeFit``: a fitted mixture, and what it says of rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxsteer._errors import check_same_length
from jaxsteer._pytrees import register_dataclass
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.latent._design import Scaling, make_design
from jaxsteer.latent._em import Problem, posterior
from jaxsteer.latent._outcomes import ClassOutcome, NormalOutcome, Outcome, Params
from jaxsteer.linalg import matmul, transpose
from jaxsteer.solvers import Status, require_converged


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RomeErrors:
    """Standard errors from the observed information, shaped like the parameters.

    Attributes:
        membership: ``[G, c_s]``.
        coef: As :attr:`RomeFit.coef`.
        variance: ``[G]`` (0 where the variance was fixed).
    """

    membership: Float[Array, "G cs"]
    coef: Float[Array, "G ..."]
    variance: Float[Array, " G"]


@register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RomeFit:
    """A mixture of regressions whose membership depends on sensitive columns.

    Attributes:
        params: Parameters in standardized units; `membership`, `coef` and `variance`
            are in those of the data.
        s_scaling: How the membership columns were standardized.
        x_scaling: How the outcome's columns were.
        y_mean: ``[]`` what was taken off the outcome.
        y_scale: ``[]`` what it was divided by.
        responsibilities: ``[n, G]`` probability of each group given all of a row.
        log_likelihood: ``[]`` of the data, in nats, constants included.
        trace: ``[max_steps + 1]`` penalized log-likelihood after every step, NaN after
            the last one.
        restart_objectives: ``[R]`` where each start ended (penalized, sorted as drawn).
        residual: ``[]`` change of the penalized log-likelihood a row in the last step.
        status: ``[]`` int32 :class:`jaxsteer.Status` of the best start.
        steps: ``[]`` EM steps of the best start.
        mass: ``[]`` sum of the sample weights, `n` without weights.
        family: "normal", "bernoulli" or "categorical".
        outcome: The outcome's law.
        one_vs_rest: Whether the membership is a set of separate regressions.
        standard_errors: Errors of the parameters, where asked for.
    """

    params: Params
    s_scaling: Scaling
    x_scaling: Scaling
    y_mean: Float[Array, ""]
    y_scale: Float[Array, ""]
    responsibilities: Float[Array, "n G"]
    log_likelihood: Float[Array, ""]
    trace: Float[Array, " t"]
    restart_objectives: Float[Array, " R"]
    residual: Float[Array, ""]
    status: Int[Array, ""]
    steps: Int[Array, ""]
    mass: Float[Array, ""]
    family: str = dataclasses.field(metadata={"static": True})
    outcome: Outcome = dataclasses.field(metadata={"static": True})
    one_vs_rest: bool = dataclasses.field(default=False, metadata={"static": True})
    standard_errors: RomeErrors | None = None

    @property
    def n_groups(self) -> int:
        """Number of latent groups ``G``."""
        return self.params.membership.shape[0]

    @property
    def membership(self) -> Float[Array, "G cs"]:
        """Coefficients of the membership, the intercept first; rows sum to zero.

        One-vs-rest rows are as they were fitted.
        """
        return self.s_scaling.to_original(self.params.membership)

    @property
    def coef(self) -> Float[Array, "G ..."]:
        """Coefficients of the outcome, the intercept first.

        ``[G, c]`` for normal outcomes and for the log-odds of class 1, ``[G, C, c]``
        (summing to zero over classes) for several classes.
        """
        return coef_to_original(
            self.params.coef, self.x_scaling, self.y_mean, self.y_scale, self.family
        )

    @property
    def variance(self) -> Float[Array, " G"]:
        """Variance of a normal outcome's noise in every group (1 for classes)."""
        return self.params.variance * self.y_scale**2

    @property
    def shares(self) -> Float[Array, " G"]:
        """Mean responsibilities, unweighted."""
        return jnp.mean(self.responsibilities, 0)

    @property
    def n_parameters(self) -> int:
        """Free parameters, as AIC and BIC count them."""
        n_groups, width = self.params.membership.shape
        count = (n_groups - (not self.one_vs_rest)) * width if n_groups > 1 else 0
        if isinstance(self.outcome, ClassOutcome):
            free = self.outcome.n_classes - 1
            return count + n_groups * free * self.params.coef.shape[-1]
        variances = {"common": 1, "group": n_groups, "fixed": 0}
        count += variances[self.outcome.variance]
        return count + n_groups * self.params.coef.shape[-1]

    @property
    def aic(self) -> Float[Array, ""]:
        """Akaike's criterion, ``-2 log L + 2 k``."""
        return -2 * self.log_likelihood + 2 * self.n_parameters

    @property
    def bic(self) -> Float[Array, ""]:
        """Schwarz's criterion, ``-2 log L + k log n``."""
        return -2 * self.log_likelihood + self.n_parameters * jnp.log(self.mass)

    @property
    def converged(self) -> Array:
        """Whether the best start converged, ``[]`` bool."""
        return self.status == Status.CONVERGED

    def require(self) -> RomeFit:
        """Return self, or raise :class:`jaxsteer.SolveError`."""
        require_converged(self.status, "rome")
        return self

    def group_probabilities(
        self, s_membership: Float[ArrayLike, "n q"]
    ) -> Float[Array, "n G"]:
        """``P(group | s)``, before any outcome is seen."""
        rows = self.s_scaling(as_columns("s_membership", s_membership, self.s_scaling))
        return jax.nn.softmax(matmul(rows, transpose(self.params.membership)), -1)

    def predict_groups(self, x: Float[ArrayLike, "n p"]) -> Float[Array, "n G ..."]:
        """Every group's own prediction.

        Returns:
            ``[n, G]`` means (probabilities of class 1 for "bernoulli"), or
            ``[n, G, C]`` probabilities for "categorical".
        """
        rows = self.x_scaling(as_columns("x", x, self.x_scaling))
        found = jnp.moveaxis(self.outcome.mean(self.params.coef, rows), -1, 0)
        if self.family == "normal":
            return found * self.y_scale + self.y_mean
        return found[..., 1] if self.family == "bernoulli" else found

    def predict(
        self, x: Float[ArrayLike, "n p"], s_membership: Float[ArrayLike, "n q"]
    ) -> Float[Array, "n ..."]:
        """The mixture's prediction, ``sum_j P(j | s) E[Y | x, j]``."""
        check_same_length(x=x, s_membership=s_membership)
        share = self.group_probabilities(s_membership)
        groups = self.predict_groups(x)
        share = share.reshape(share.shape + (1,) * (groups.ndim - 2))
        return jnp.sum(share * groups, 1)

    def posterior(
        self,
        y: ArrayLike,
        x: Float[ArrayLike, "n p"],
        s_membership: Float[ArrayLike, "n q"],
    ) -> Float[Array, "n G"]:
        """Responsibilities ``P(group | y, x, s)`` of rows with outcomes."""
        check_same_length(y=y, x=x, s_membership=s_membership)
        problem = self.problem(y, x, s_membership)
        return transpose(posterior(self.params, problem, self.outcome)[0])

    def score(
        self,
        y: ArrayLike,
        x: Float[ArrayLike, "n p"],
        s_membership: Float[ArrayLike, "n q"],
    ) -> Float[Array, ""]:
        """Log-likelihood of rows, in nats, constants included."""
        check_same_length(y=y, x=x, s_membership=s_membership)
        problem = self.problem(y, x, s_membership)
        total = posterior(self.params, problem, self.outcome)[1]
        return total - self.log_jacobian * len(problem.weights)

    @property
    def log_jacobian(self) -> Float[Array, ""]:
        """What standardizing added to each row's log-density."""
        normal = isinstance(self.outcome, NormalOutcome)
        return jnp.log(self.y_scale) if normal else jnp.zeros_like(self.y_scale)

    def problem(
        self,
        y: ArrayLike,
        x: ArrayLike,
        s_membership: ArrayLike,
        weights: ArrayLike | None = None,
    ) -> Problem:
        """Rows in standardized units."""
        x = as_columns("x", x, self.x_scaling)
        s = as_columns("s_membership", s_membership, self.s_scaling)
        dtype = self.params.membership.dtype
        if isinstance(self.outcome, NormalOutcome):
            target = (jnp.asarray(y, dtype) - self.y_mean) / self.y_scale
        else:
            codes = jnp.asarray(y)
            target = jax.nn.one_hot(codes, self.outcome.n_classes, dtype=dtype, axis=0)
        one = jnp.ones((), dtype)
        return Problem(
            target,
            make_design(self.x_scaling(x)),
            make_design(self.s_scaling(s)),
            jnp.ones(x.shape[0], dtype) if weights is None else jnp.asarray(weights),
            jnp.zeros((), dtype),
            one,
        )

    def permute(self, order: Sequence[int]) -> RomeFit:
        """Rename the groups: the new group ``j`` is the old ``order[j]``."""
        if sorted(int(j) for j in order) != list(range(self.n_groups)):
            raise ValueError(
                f"order={list(order)} must hold 0..{self.n_groups - 1}, each once."
            )
        index = jnp.asarray([int(j) for j in order])
        errors = self.standard_errors
        if errors is not None:
            errors = jax.tree.map(lambda leaf: leaf[index], errors)
        return dataclasses.replace(
            self,
            params=jax.tree.map(lambda leaf: leaf[index], self.params),
            responsibilities=self.responsibilities[:, index],
            standard_errors=errors,
        )


def coef_to_original(
    coef: Array, scaling: Scaling, y_mean: Array, y_scale: Array, family: str
) -> Array:
    """Outcome coefficients in the units of the data."""
    found = scaling.to_original(coef)
    if family == "bernoulli":
        return found[:, 1] - found[:, 0]
    if family == "normal":
        found = found * y_scale
        if scaling.intercept:
            found = found.at[:, 0].add(y_mean)
    return found


def as_columns(name: str, rows: ArrayLike, scaling: Scaling) -> Float[Array, "n m"]:
    """Rows as ``[n, m]`` in the dtype and width of the fit, or raise."""
    width = scaling.mean.shape[0]
    rows = jnp.asarray(rows, scaling.mean.dtype)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] != width:
        expected = f"[n, {width}]" + (" or [n]" if math.isclose(width, 1) else "")
        raise ValueError(
            f"{name} must have shape {expected}, as it was fitted, got "
            f"{list(rows.shape)}."
        )
    return rows
