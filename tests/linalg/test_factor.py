"""Factorizations: values, derivatives, batches and the transformations of JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from jax.test_util import check_grads

from jaxsteer import linalg
from jaxsteer.linalg import transpose

DTYPE = jnp.result_type(float)
D = 4
RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, D, D)) + 2 * np.eye(D)
B = RNG.normal(size=(3, D, 2))
DA, DB = RNG.normal(size=A.shape), RNG.normal(size=B.shape)
WEIGHTS = np.arange(1.0, D + 1)


class Reference:
    """The same functions by ``linalg`` of NumPy or of JAX."""

    def __init__(self, source):
        self.source = source
        for name in ("cholesky", "eigh", "qr", "slogdet", "solve"):
            setattr(self, name, getattr(source, name))

    def cholesky_inverse(self, a):
        factor = self.source.cholesky(a)
        return factor, self.source.inv(factor)

    def inverse_and_logdet(self, a):
        return self.source.inv(a), *self.source.slogdet(a)

    def svd(self, a):
        return self.source.svd(a, full_matrices=False)

    def solve_lower(self, factor, b, transposed=False):
        xp = np if self.source is np.linalg else jnp
        triangle = xp.tril(factor)
        return self.source.solve(transpose(triangle) if transposed else triangle, b)

    def solver(self, a):
        return lambda b: self.source.solve(a, b)


def every(by, a, b):
    """Every factorization, in what does not depend on the signs of vectors."""
    weights = WEIGHTS.astype(a.dtype)[None]
    s = a @ transpose(a) + np.eye(D, dtype=a.dtype)
    values, vectors = by.eigh(s)
    u, sizes, vt = by.svd(a)
    tall_u, tall_sizes, tall_vt = by.svd(a[..., :2])
    wide_u, wide_sizes, wide_vt = by.svd(a[..., :2, :])
    q, r = by.qr(a[..., :3])
    inverse, _, logdet = by.inverse_and_logdet(a)
    solve = by.solver(a)
    return {
        "cholesky": by.cholesky(s),
        "cholesky_inverse": by.cholesky_inverse(s),
        "eigh": (values, (vectors * weights) @ transpose(vectors)),
        "svd": (sizes, (u * weights) @ vt),
        "tall svd": (tall_sizes, (tall_u * weights[:, :2]) @ tall_vt),
        "wide svd": (wide_sizes, (wide_u * weights[:, :2]) @ wide_vt),
        "qr": (q, r),
        "inverse": (inverse, logdet),
        "slogdet": by.slogdet(a)[1],
        "solve": by.solve(a, b),
        "solver": solve(solve(b)),
        "solve_lower": by.solve_lower(a, b),
        "solve_lower, transposed": by.solve_lower(a, b, True),
    }


def ours(a, b):
    return every(linalg, a, b)


def with_derivatives(by):
    """Values, and first and second derivatives along a direction."""

    def run(a, b, da, db):
        def along(a, b):
            return jax.jvp(lambda a, b: every(by, a, b), (a, b), (da, db))

        return jax.jvp(along, (a, b), (da, db))

    return jax.jit(jax.vmap(run))


OURS = with_derivatives(linalg)
BY_JAX = with_derivatives(Reference(jnp.linalg))


def arrays(*given):
    return [jnp.asarray(one, DTYPE) for one in given]


@pytest.fixture(scope="module")
def found():
    return OURS(*arrays(A, B, DA, DB))


def check_close(found, expected, eps, factor):
    """Relative to the largest entry of each leaf."""

    def check(path, one, other):
        size = np.abs(other).max()
        np.testing.assert_allclose(
            one, other, rtol=0, atol=factor * eps * size, err_msg=str(path)
        )

    jax.tree_util.tree_map_with_path(check, found, expected)


def test_values_equal_numpy(found, eps):
    (values, _), _ = found
    expected = [every(Reference(np.linalg), a, b) for a, b in zip(A, B, strict=True)]
    expected = jax.tree.map(lambda *rows: np.stack(rows), *map(_plain, expected))
    check_close(_plain(values), expected, eps, 200)


def _plain(tree):
    """Tuples in place of NumPy's named results."""
    return {k: tuple(v) if isinstance(v, tuple) else v for k, v in tree.items()}


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_equal_those_of_jax(found, order, eps):
    by_jax = BY_JAX(*arrays(A, B, DA, DB))
    check_close(_plain(found[order - 1][1]), _plain(by_jax[order - 1][1]), eps, 20_000)


def test_derivatives_equal_finite_differences(x64):
    check_grads(jax.jit(ours), arrays(A[0], B[0]), 2, atol=1e-4, rtol=1e-4)


def test_signs_of_determinants(eps):
    swap = jnp.eye(3)[jnp.array([1, 0, 2])]
    both = jnp.stack([swap, jnp.eye(3), jnp.zeros((3, 3))])
    sign, size = linalg.slogdet(both)
    assert sign.tolist() == [-1, 1, 0] and size.tolist() == [0, 0, -jnp.inf]
    assert linalg.inverse_and_logdet(both[:2])[1].tolist() == [-1, 1]


def loss(a, b):
    solved = linalg.solve(a, b)
    factor, inverse = linalg.cholesky_inverse(a @ a.T + jnp.eye(D, dtype=a.dtype))
    whitened = linalg.solve_lower(factor, b)
    return jnp.sum(solved**2) + jnp.sum(inverse**3) + jnp.sum(whitened**4)


def test_the_gradient_of_a_batch_is_the_batch_of_gradients(eps):
    """Nested, with one argument shared by a batch."""
    a, b = arrays(np.stack([A, A + 0.1]), B)

    def batched(of):
        return jax.vmap(jax.vmap(of), (0, None))

    one = jax.jit(batched(jax.grad(loss, (0, 1))))(a, b)
    all_ = jax.jit(jax.grad(lambda *args: jnp.sum(batched(loss)(*args)), (0, 1)))
    shared = all_(a, b)
    np.testing.assert_allclose(shared[0], one[0], rtol=1e3 * eps, atol=1e3 * eps)
    np.testing.assert_allclose(
        shared[1], jnp.sum(one[1], 0), rtol=1e3 * eps, atol=1e3 * eps
    )


def test_a_row_that_is_not_finite_touches_no_other(found, eps):
    a, b, da, db = arrays(A, B, DA, DB)
    bad = OURS(a.at[1].set(jnp.nan), b, da, db)

    def check(broken, whole):
        np.testing.assert_array_equal(broken[::2], whole[::2])
        assert not np.isfinite(broken[1]).all()

    jax.tree.map(check, bad, found)


def test_no_positive_definite_matrix_is_nan():
    found = linalg.cholesky(jnp.array([[1.0, 2.0], [2.0, 1.0]]))
    assert jnp.isnan(found).any()


def test_many_small_matrices(eps):
    """They are factorized without LAPACK, each as if it were alone."""
    half = np.random.default_rng(1).normal(size=(80, 3, 6))
    a = half @ np.swapaxes(half, -1, -2)
    expected = np.linalg.cholesky(a)
    a[5], a[7], a[9] = -a[5], np.nan, np.diag([1.0, 0.0, 1.0])
    good = np.setdiff1d(np.arange(80), [5, 7, 9])
    both = jax.jit(jax.vmap(lambda a: (linalg.cholesky(a), linalg.cholesky_inverse(a))))
    alone, (factor, inverse) = both(jnp.asarray(a, DTYPE))
    atol = 500 * eps * np.abs(expected).max()
    np.testing.assert_allclose(alone[good], expected[good], rtol=0, atol=atol)
    np.testing.assert_allclose(factor[good], expected[good], rtol=0, atol=atol)
    identity = np.broadcast_to(np.eye(3), (len(good), 3, 3))
    product = np.asarray(factor[good]) @ np.asarray(inverse[good])
    np.testing.assert_allclose(product, identity, rtol=0, atol=1e3 * eps)
    for found in (alone, factor, inverse):
        assert np.isnan(np.asarray(found)[[5, 7, 9]]).any((1, 2)).all()


def test_half_precision_is_factorized_in_float32():
    half = jnp.asarray(A[0], jnp.bfloat16), jnp.asarray(B[0], jnp.bfloat16)
    found = jax.jit(ours)(*half)
    exact = every(Reference(np.linalg), *(np.asarray(x, float) for x in half))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("bfloat16")}
    check_close(
        jax.tree.map(lambda leaf: np.asarray(leaf, float), _plain(found)),
        _plain(exact),
        float(jnp.finfo(jnp.bfloat16).eps),
        60,
    )


def test_nothing_to_factorize():
    none = jnp.zeros((0, D, D), DTYPE)
    assert jax.vmap(linalg.cholesky)(none).shape == (0, D, D)
    assert linalg.solve(none, none).shape == (0, D, D)
    empty = jnp.zeros((2, 0, 0), DTYPE)
    assert linalg.solve(empty, jnp.zeros((2, 0, 3), DTYPE)).shape == (2, 0, 3)
    assert jax.vmap(linalg.cholesky_inverse)(empty)[1].shape == (2, 0, 0)


def test_transposes(eps):
    a, b = arrays(A, B)
    for solve in (linalg.solve, linalg.solve_lower, lambda a, b: linalg.solver(a)(b)):
        (back,) = jax.linear_transpose(lambda b, s=solve: s(a, b), b)(b)
        matrix = jnp.tril(a) if solve is linalg.solve_lower else a
        np.testing.assert_allclose(
            back, np.linalg.solve(transpose(matrix), b), rtol=500 * eps, atol=100 * eps
        )


STRICT = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])


@STRICT
def test_strict_promotion_of_ranks_and_dtypes(dtype):
    """Traced only: what a rule forbids raises then."""
    a, b = jnp.asarray(A[0], dtype), jnp.asarray(B[0], dtype)

    def more(a):
        s = linalg.symmetrize(a)
        return linalg.roots_psd(s), linalg.sqrtm_psd(s), linalg.project_psd(s), (
            linalg.polar_orthogonal(a, True), linalg.cholesky_psd(s).factor,
        )  # fmt: skip

    with (
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
    ):
        for fn, args in ((loss, (a, b)), (_normals, (a, b[:, 0]))):
            jax.eval_shape(jax.hessian(fn), *args)
            jax.eval_shape(jax.vmap(jax.grad(fn), (0, None)), a[None], *args[1:])
        jax.eval_shape(lambda a: jax.jvp(more, (a,), (a,)), a)


def _normals(cov, mean):
    from jaxsteer.families import MultivariateNormal

    eye = jnp.eye(D, dtype=cov.dtype)
    p, q = MultivariateNormal(mean, cov @ cov.T), MultivariateNormal(-mean, eye)
    many = jnp.broadcast_to(mean, (5, D))
    return p.kl(q) + jnp.sum(q.log_prob(many)) + jnp.sum(p.transport_to(q).weight)


def test_sharded_rows(found, eps):
    """With the checks of varying axes, which loops must not confuse."""
    mesh = Mesh(np.array(jax.devices()[:1]), ("rows",))
    rows = PartitionSpec("rows")
    program = jax.shard_map(
        OURS, mesh=mesh, in_specs=rows, out_specs=rows,
        check_vma=True,
    )  # fmt: skip
    check_close(jax.jit(program)(*arrays(A, B, DA, DB)), found, eps, 100)


def test_exported_programs_run(eps):
    a, b = arrays(A[0], B[0])
    program = jax.jit(jax.value_and_grad(loss))
    from jax import export

    exported = export.export(program)(a, b)
    assert jax.eval_shape(program, a, b)[1].shape == a.shape
    check_close(exported.call(a, b), program(a, b), eps, 100)
