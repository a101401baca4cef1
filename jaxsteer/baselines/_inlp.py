"""INLP: train a linear probe, project its directions away, and again.

Formula: ``x -> mean + P (x - mean)`` with ``P = I - Q Q'``, where ``Q`` spans the
coefficients of the probes found one after another, each on what the others left.

Idea: whatever linear probe finds the concept, its directions go. What no further probe
finds is gone for linear probes.

Siblings: LEACE does the same in closed form, in one step and with the least movement;
INLP takes many steps and many directions, so it destroys more.

Paper: Ravfogel et al. 2020, "Null it out", arXiv 2004.07667. (There rows are moved about
the origin; about the mean is the same up to one shift of all rows.)
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxsteer._errors import is_concrete
from jaxsteer._types import Array, ArrayLike, Float, Int
from jaxsteer.baselines._leace_moments import range_basis
from jaxsteer.baselines._logistic import Rows, fit_probe, scores
from jaxsteer.baselines._moments import check_groups
from jaxsteer.linalg import matmul
from jaxsteer.maps import AffineMap


def fit_inlp(
    x: Float[ArrayLike, "n d"],
    z: Int[ArrayLike, " n"],
    *,
    weights: Float[ArrayLike, " n"] | None = None,
    n_concepts: int | None = None,
    n_steps: int = 10,
    min_gain: float = 0.0,
    l2: float = 1e-4,
    standardize: bool = False,
) -> AffineMap:
    """Fit the projection that takes the directions of several linear probes away.

    Probes are multinomial logistic regressions with intercepts, found by L-BFGS. Each
    takes up to ``k - 1`` directions. Cost O(n d k) for an evaluation of a probe, a few
    dozen a step, and O(n d^2) a step. Not differentiable.

    Args:
        x: ``[n, d]`` features.
        z: ``[n]`` integer codes ``0..k-1``.
        weights: ``[n]`` sample weights, at least 0.
        n_concepts: k; None takes the largest code plus one, which needs concrete codes.
        n_steps: Largest number of probes.
        min_gain: No more probes after one whose training accuracy is not above the
            share of the largest class by more than this.
        l2: Penalty of the probes: half of it times the squared coefficients is added to
            the mean loss, for features scaled to mean variance 1.
        standardize: Whether "orthogonal" is meant in units of the deviations of the
            features. False keeps their own units, as the paper does.

    Returns:
        One map for all rows. It keeps the mean of `x`; applying it twice is applying it
        once.

    Raises:
        ValueError: If shapes, codes, weights or values are unusable, a class is empty,
            or an option is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[0.0, 1.0], [0.0, -1.0], [2.0, 1.0], [2.0, -1.0]])
        >>> fit_inlp(x, jnp.array([0, 0, 1, 1]))(x).round(3).tolist()
        [[1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [1.0, -1.0]]

    References:
        Ravfogel et al. 2020, arXiv 2004.07667.
    """
    if isinstance(n_steps, bool) or not isinstance(n_steps, int) or n_steps < 1:
        raise ValueError(f"n_steps={n_steps!r} must be a whole number, at least 1.")
    if is_concrete(l2) and not l2 > 0:
        raise ValueError(f"l2={l2!r} must be positive: probes need a finite optimum.")
    if is_concrete(min_gain) and not 0 <= min_gain < 1:
        raise ValueError(f"min_gain={min_gain!r} must be at least 0 and below 1.")
    rows, codes, mass, size = check_groups(
        x, z, weights=weights, reference=0, n_groups=n_concepts, name="z"
    )
    penalty, gain = (jnp.asarray(v, rows.dtype) for v in (l2, min_gain))
    return _projection(rows, codes, mass, penalty, gain, (size, n_steps, standardize))


@partial(jax.jit, static_argnums=5)
def _projection(
    rows: Array,
    codes: Array,
    mass: Array,
    l2: Array,
    min_gain: Array,
    options: tuple[int, int, bool],
) -> AffineMap:
    size, n_steps, standardize = options
    d = rows.shape[1]
    share = mass / jnp.sum(mass)
    rough = jnp.mean(rows, 0)
    mean = rough + matmul(share, rows - rough)
    variance = matmul(share, (rows - mean) ** 2)
    if not standardize:
        variance = jnp.full_like(variance, jnp.mean(variance))
    scale = jnp.where(variance > 0, jnp.sqrt(variance), 1.0)
    centered = (rows - mean) / scale
    hot = jax.nn.one_hot(codes.astype(jnp.int32), size, dtype=rows.dtype)
    chance = jnp.max(matmul(share, hot))

    def step(state: tuple[Array, Array], _):
        kept, going = state
        left = matmul(centered, kept)
        coef = fit_probe(Rows(left, hot, share, l2), intercept=True)
        right = jnp.argmax(scores(coef, left), -1) == codes
        going = going & (jnp.sum(share * right) > chance + min_gain)
        # A common shift of the coefficients of all classes changes no probability.
        found = matmul(kept, (coef - jnp.mean(coef, 0))[:, :d].T)
        norm = jnp.linalg.norm(found)
        basis = range_basis(found / jnp.where(norm > 0, norm, 1.0), 1e-3)
        basis = jnp.where(going, basis, 0.0)
        kept = kept - matmul(basis, matmul(basis.T, kept))
        return (kept, going), None

    start = (jnp.eye(d, dtype=rows.dtype), jnp.array(True))
    (kept, _), _ = jax.lax.scan(step, start, None, length=n_steps)
    weight = _rescaled(kept, scale)
    return AffineMap(weight, mean - matmul(weight, mean))


def _rescaled(kept: Array, scale: Array) -> Array:
    # Symmetric up to rounding that would grow with every application.
    return scale[:, None] * (0.5 * (kept + kept.T)) / scale
