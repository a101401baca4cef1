from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxsteer.linalg import inv_sqrtm_psd, roots_psd, solve_lyapunov, sqrtm_psd

DTYPE = jnp.result_type(float)
EPS = float(jnp.finfo(DTYPE).eps)


def psd(values, seed=0):
    d = len(values)
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
    return (q * np.asarray(values, float)) @ q.T


def symmetric(seed, d):
    a = np.random.default_rng(seed).normal(size=(d, d))
    return (a + a.T) / 2


def sqrt64(a):
    return scipy.linalg.sqrtm(a).real


def inv_sqrt64(a):
    return np.linalg.inv(sqrt64(a))


SPECTRA = {
    "one": [3.0],
    "distinct": [0.5, 1.0, 2.0, 4.0],
    "identity": [1.0, 1.0, 1.0],
    "repeated": [2.0, 2.0, 0.5],
    "near-repeated": [1.0, 1.0 + 1e-6, 2.0],
    "nearer": [1.0, 1.0 + 1e-12, 1.0 + 2e-12],
    "wide": [10.0, 1.0, 0.1, 0.02],
}
spectra = pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA)
roots = pytest.mark.parametrize(
    ("fn", "reference"), [(sqrtm_psd, sqrt64), (inv_sqrtm_psd, inv_sqrt64)]
)


def condition(values):
    return max(values) / min(values)


@roots
@spectra
def test_values_equal_scipy(fn, reference, values):
    a = psd(values)
    expected = reference(a)
    atol = 30 * EPS * condition(values) * np.abs(expected).max()
    np.testing.assert_allclose(jax.jit(fn)(jnp.asarray(a)), expected, atol=atol)


def derivative64(reference, a, da, step=1e-4):
    # Fourth-order central differences, in float64 whatever the dtype under test.
    def at(k):
        return reference(a + k * step * da)

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)


@roots
@spectra
def test_forward_derivative_equals_finite_differences(fn, reference, values):
    a, da = psd(values), symmetric(1, len(values))
    expected = derivative64(reference, a, da, 1e-4 * min(values))
    _, found = jax.jvp(fn, (jnp.asarray(a),), (jnp.asarray(da),))
    atol = max(50 * EPS * condition(values), 1e-9) * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=atol)


@roots
@spectra
def test_reverse_derivative_equals_forward(fn, reference, values):
    d = len(values)
    a = jnp.asarray(psd(values))
    out, da = jnp.asarray(symmetric(2, d)), jnp.asarray(symmetric(3, d))
    _, forward = jax.jvp(fn, (a,), (da,))
    (back,) = jax.vjp(fn, a)[1](out)
    scale = float(jnp.abs(forward).max()) * d * d
    np.testing.assert_allclose(
        jnp.sum(back * da),
        jnp.sum(forward * out),
        atol=50 * EPS * condition(values) * scale,
    )
    expected = derivative64(reference, psd(values), np.asarray(da), 1e-4 * min(values))
    np.testing.assert_allclose(
        jnp.sum(back * da),
        np.sum(expected * np.asarray(out)),
        atol=max(50 * EPS * condition(values), 1e-8) * scale,
    )


@roots
@pytest.mark.parametrize("name", ["identity", "repeated", "nearer", "distinct"])
def test_second_derivative_equals_finite_differences(fn, reference, name):
    a, da = psd(SPECTRA[name]), symmetric(4, len(SPECTRA[name]))
    step = 1e-2 * min(SPECTRA[name])

    def at(k):
        return reference(a + k * step * da)

    expected = (16 * (at(1) + at(-1)) - (at(2) + at(-2)) - 30 * at(0)) / (12 * step**2)

    def along(t):
        return fn(jnp.asarray(a) + t * jnp.asarray(da))

    found = jax.jvp(lambda t: jax.jvp(along, (t,), (1.0,))[1], (0.0,), (1.0,))[1]
    rtol = max(500 * EPS, 1e-6)
    np.testing.assert_allclose(found, expected, atol=rtol * np.abs(expected).max())


def test_first_and_second_derivative_at_the_identity_are_exact():
    # (1 + t)^{1/2}: slopes 1/2 and -1/4; (1 + t)^{-1/2}: -1/2 and 3/4.
    eye = jnp.eye(3)
    for fn, first, second in ((sqrtm_psd, 0.5, -0.25), (inv_sqrtm_psd, -0.5, 0.75)):

        def along(t, fn=fn):
            return fn(eye * (1 + t))

        slope = jax.jit(jax.jacfwd(along))(0.0)
        np.testing.assert_allclose(slope, first * np.eye(3), atol=20 * EPS)
        curve = jax.jit(jax.jacfwd(jax.jacfwd(along)))(0.0)
        np.testing.assert_allclose(curve, second * np.eye(3), atol=50 * EPS)


@functools.cache
def both_hessians(fn):
    def loss(a, out):
        return jnp.sum(fn(a) * out)

    grad = jax.grad(loss)
    return jax.jit(lambda a, out: (jax.jacfwd(grad)(a, out), jax.jacrev(grad)(a, out)))


@pytest.mark.parametrize("fn", [sqrtm_psd, inv_sqrtm_psd])
@pytest.mark.parametrize("name", ["identity", "repeated", "near-repeated"])
def test_hessian_in_both_modes(fn, name):
    a = jnp.asarray(psd(SPECTRA[name]))
    forward, reverse = both_hessians(fn)(a, jnp.asarray(symmetric(5, 3)))
    assert jnp.isfinite(forward).all()
    atol = 200 * EPS * float(jnp.abs(forward).max())
    np.testing.assert_allclose(forward, reverse, atol=atol)
    swapped = jnp.transpose(forward, (2, 3, 0, 1))
    np.testing.assert_allclose(forward, swapped, atol=atol)


@pytest.mark.parametrize("fn", [sqrtm_psd, inv_sqrtm_psd])
def test_jit_vmap_grad_is_finite_and_equal_to_one_by_one(fn):
    batch = jnp.asarray(
        np.stack([psd([1.0, 1.0, 1.0]), psd([2.0, 2.0, 0.5]), psd([1, 1 + 1e-6, 3])])
    )
    out = jnp.asarray(symmetric(6, 3))
    grad = jax.grad(lambda a: jnp.sum(fn(a) * out))
    found = jax.jit(jax.vmap(grad))(batch)
    assert jnp.isfinite(found).all()
    one_by_one = jnp.stack([grad(a) for a in batch])
    atol = 50 * EPS * float(jnp.abs(found).max())
    np.testing.assert_allclose(found, one_by_one, atol=atol)


def test_negative_rounding_counts_as_zero():
    a = jnp.diag(jnp.array([4.0, -1e-3 * EPS]))
    np.testing.assert_array_equal(sqrtm_psd(a), jnp.diag(jnp.array([2.0, 0.0])))
    np.testing.assert_array_equal(inv_sqrtm_psd(a), jnp.diag(jnp.array([0.5, 0.0])))


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_singular_inverse_root_is_the_pseudo_inverse(rank):
    values = np.concatenate([np.linspace(1, 2, rank), np.zeros(5 - rank)])
    a = psd(values)
    expected = sqrt64_pinv(a)[1]
    np.testing.assert_allclose(inv_sqrtm_psd(jnp.asarray(a)), expected, atol=50 * EPS)
    root, inverse = roots_psd(jnp.asarray(a))
    np.testing.assert_allclose(root @ root, a, atol=50 * EPS)
    projector = root @ inverse
    np.testing.assert_allclose(projector @ projector, projector, atol=50 * EPS)
    np.testing.assert_allclose(jnp.trace(projector), rank, atol=50 * EPS)


@pytest.mark.parametrize("index", [0, 1])
def test_derivative_at_constant_rank_where_the_range_turns(index):
    # a(t) = q(t) diag(2, 1, 0) q(t)' keeps its rank, so both roots are smooth in t.
    generator = np.array([[0, 1, -2], [-1, 0, 0.5], [2, -0.5, 0]])
    a = psd([2.0, 1.0, 0.0])
    da = generator @ a - a @ generator
    root = sqrt64_pinv(a)[index]
    expected = generator @ root - root @ generator
    _, found = jax.jvp(roots_psd, (jnp.asarray(a),), (jnp.asarray(da),))
    np.testing.assert_allclose(found[index], expected, atol=200 * EPS)
    fn = (sqrtm_psd, inv_sqrtm_psd)[index]
    _, single = jax.jvp(fn, (jnp.asarray(a),), (jnp.asarray(da),))
    # The plain root keeps an eigenvalue of rounding size, whose own root is sqrt(eps).
    np.testing.assert_allclose(single, expected, atol=20 * EPS**0.5)


def sqrt64_pinv(a):
    values, vectors = np.linalg.eigh(a)
    keep = values > 1e-10
    safe = np.where(keep, values, 1)
    return (
        (vectors * np.where(keep, safe**0.5, 0)) @ vectors.T,
        (vectors * np.where(keep, safe**-0.5, 0)) @ vectors.T,
    )


@pytest.mark.parametrize("fn", [sqrtm_psd, inv_sqrtm_psd])
def test_zero_matrix_has_finite_value_and_gradient(fn):
    zero = jnp.zeros((3, 3))
    np.testing.assert_array_equal(fn(zero), zero)
    np.testing.assert_array_equal(jax.grad(lambda a: jnp.sum(fn(a)))(zero), zero)


def test_ill_conditioned_root_squares_back():
    a = jnp.asarray(psd(np.geomspace(1, 1e-6, 6)))
    root = sqrtm_psd(a)
    np.testing.assert_allclose(root @ root, a, atol=50 * EPS)


@pytest.mark.parametrize("d", [1, 2, 6])
def test_lyapunov_equals_scipy(d):
    y = psd(np.geomspace(1, 0.1, d), seed=d)
    c = np.random.default_rng(d).normal(size=(d, d))
    expected = scipy.linalg.solve_continuous_lyapunov(y, c)
    found = solve_lyapunov(jnp.asarray(y), jnp.asarray(c))
    np.testing.assert_allclose(found, expected, atol=500 * EPS * np.abs(expected).max())


def test_lyapunov_on_a_singular_matrix_solves_what_can_be_solved():
    y = psd([2.0, 1.0, 0.0, 0.0])
    exact = symmetric(0, 4)
    c = y @ exact + exact @ y
    found = np.asarray(solve_lyapunov(jnp.asarray(y), jnp.asarray(c)))
    np.testing.assert_allclose(y @ found + found @ y, c, atol=200 * EPS)
    null = np.linalg.eigh(y)[1][:, :2]
    np.testing.assert_allclose(null.T @ found @ null, 0, atol=200 * EPS)


def test_lyapunov_derivatives_in_both_arguments():
    y, c = psd([1.0, 1.0, 2.0]), symmetric(1, 3)
    dy, dc = symmetric(2, 3), symmetric(3, 3)

    def reference(t):
        return scipy.linalg.solve_continuous_lyapunov(y + t * dy, c + t * dc)

    expected = (reference(1e-5) - reference(-1e-5)) / 2e-5
    args = jnp.asarray(y), jnp.asarray(c)
    _, found = jax.jvp(solve_lyapunov, args, (jnp.asarray(dy), jnp.asarray(dc)))
    rtol = max(100 * EPS, 1e-8)
    np.testing.assert_allclose(found, expected, atol=rtol * np.abs(expected).max())
    back = jax.grad(lambda y, c: jnp.sum(solve_lyapunov(y, c)), (0, 1))(*args)
    along = jnp.sum(back[0] * dy) + jnp.sum(back[1] * dc)
    np.testing.assert_allclose(
        along, expected.sum(), atol=10 * rtol * np.abs(expected).max()
    )
