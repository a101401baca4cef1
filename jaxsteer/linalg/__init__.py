"""Numerics of positive semi-definite matrices; knows nothing of fairness."""

from jaxsteer.linalg._cholesky import (
    PsdFactor,
    cholesky_psd,
    logdet_from_cholesky,
    solve_positive_definite,
    solve_psd,
    solve_small_psd,
    whiten,
    whiten_transposed,
)
from jaxsteer.linalg._factor import (
    cholesky,
    cholesky_inverse,
    eigh,
    inverse_and_logdet,
    qr,
    slogdet,
    solve,
    solve_lower,
    solver,
    svd,
)
from jaxsteer.linalg._logs import expm1_minus, log_or_zero, relative_entropy
from jaxsteer.linalg._matmul import einsum, gram, matmul, symmetrize, transpose
from jaxsteer.linalg._order import after, all_after
from jaxsteer.linalg._polar import polar_orthogonal
from jaxsteer.linalg._roots import (
    inv_sqrtm_psd,
    project_psd,
    roots_psd,
    solve_lyapunov,
    sqrtm_psd,
)
from jaxsteer.linalg._special import (
    HALF_LOG_2PI,
    entropy_remainder,
    gamma_excess,
    lgamma_bregman,
    log_minus_digamma,
    log_quotient,
    stirling_remainder,
)

__all__ = [
    "HALF_LOG_2PI",
    "PsdFactor",
    "after",
    "all_after",
    "cholesky",
    "cholesky_inverse",
    "cholesky_psd",
    "eigh",
    "einsum",
    "entropy_remainder",
    "expm1_minus",
    "gamma_excess",
    "gram",
    "inv_sqrtm_psd",
    "inverse_and_logdet",
    "lgamma_bregman",
    "log_minus_digamma",
    "log_or_zero",
    "log_quotient",
    "logdet_from_cholesky",
    "matmul",
    "polar_orthogonal",
    "project_psd",
    "qr",
    "relative_entropy",
    "roots_psd",
    "slogdet",
    "solve",
    "solve_lower",
    "solve_lyapunov",
    "solve_positive_definite",
    "solve_psd",
    "solve_small_psd",
    "solver",
    "sqrtm_psd",
    "stirling_remainder",
    "svd",
    "symmetrize",
    "transpose",
    "whiten",
    "whiten_transposed",
]
