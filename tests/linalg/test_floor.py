"""No program but ``linalg``'s calls LAPACK, and none hands it a batch on a CPU."""

from __future__ import annotations

import ast
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer.latent import fit_rome_em
from jaxsteer.latent._fit import _fit
from jaxsteer.linalg import eigh, solve

ROOT = Path(js.__file__).parent
RAW = re.compile(r"(jnp|jax\.numpy|lax|jax\.lax|jax\.scipy|jsp)\.linalg\b(?!\.norm\b)")
MODULES = ("jax.numpy", "jax.lax", "jax.scipy")


def raw_calls(source: str) -> list[str]:
    """Names of JAX's own factorizations that a file uses or imports."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if RAW.match(name) and name.count(".linalg.") == 1:
                found.append(name)
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            module = node.module or ""
            if module in MODULES and "linalg" in names:
                found.append(f"{module}.linalg")
            if module in [f"{one}.linalg" for one in MODULES]:
                found += [f"{module}.{name}" for name in names if name != "norm"]
    return found


def test_raw_calls_are_seen():
    source = """
from jax.scipy.linalg import cho_solve
from jax.numpy import linalg
jnp.linalg.norm(x) + jnp.linalg.eigh(x)[0] + jax.lax.linalg.qr(x) + np.linalg.qr(x)
"""
    assert sorted(raw_calls(source)) == [
        "jax.lax.linalg.qr",
        "jax.numpy.linalg",
        "jax.scipy.linalg.cho_solve",
        "jnp.linalg.eigh",
    ]


def test_only_linalg_factorizes():
    found = {
        path.relative_to(ROOT).as_posix(): raw_calls(path.read_text())
        for path in ROOT.rglob("*.py")
        if path.parent != ROOT / "linalg"
    }
    left = {name: calls for name, calls in found.items() if calls}
    assert not left, left


CALL = re.compile(
    r"(custom_call @(?:lapack|blas)_\w+|stablehlo\.(?:cholesky|triangular_solve))"
    r".*: \(([^)]*)\) ->"
)


def lapack_calls(program, *args, **options) -> dict[str, int]:
    """LAPACK calls of a lowered program, with the largest rank of what each takes."""
    text = program.lower(*args, **options).as_text()
    return {
        f"{call} {operands}": max(
            shape.count("x") for shape in re.findall(r"tensor<([^>]*)>", operands)
        )
        for call, operands in CALL.findall(text)
    }


def check_no_batch(program, *args, **options):
    calls = lapack_calls(program, *args, **options)
    assert calls
    assert not {call for call, rank in calls.items() if rank > 2}


def test_batched_calls_are_seen():
    a = jnp.ones((3, 4, 4))
    for raw in (jnp.linalg.eigh, jnp.linalg.cholesky, jnp.linalg.inv):
        assert 3 in lapack_calls(jax.jit(raw), a).values()
    check_no_batch(jax.jit(jax.vmap(eigh)), a)
    check_no_batch(jax.jit(jax.vmap(solve)), a, a)


RNG = np.random.default_rng(0)


def population(*batch, d=24):
    half = RNG.normal(size=(*batch, 2, 2, d, 2 * d))
    cov = jnp.asarray(half @ np.swapaxes(half, -1, -2) / d)
    mean = jnp.asarray(RNG.normal(size=(*batch, 2, 2, d)))
    priors = jnp.full((*batch, 2, 2), 0.25)
    return js.Population(priors, js.MultivariateNormal(mean, cov))


@pytest.mark.parametrize("of", [lambda f: f, jax.value_and_grad, jax.hessian])
def test_derivatives_of_a_divergence_factorize_no_more(of):
    laws = [jax.tree.map(lambda leaf: leaf[0, 0], population(d=3).conditionals)] * 2

    def count(jaxpr):
        total = 0
        for equation in jaxpr.eqns:
            if equation.primitive.name == "custom_vmap_call":
                total += 1
                continue
            for value in jax.tree.leaves(list(equation.params.values())):
                inner = getattr(value, "jaxpr", value)
                total += count(inner) if hasattr(inner, "eqns") else 0
        return total

    program = of(lambda p, q: jnp.sum(p.kl(q)))
    assert count(jax.make_jaxpr(program)(*laws).jaxpr) == 2
    # Each is one Cholesky factorization and one triangular inverse.
    check_no_batch(jax.jit(jax.vmap(program)), *[population(3).conditionals] * 2)


@pytest.mark.parametrize("maps", ["general", "positive_definite", "pivot",
                                  "shared_covariance", "diagonal"])  # fmt: skip
@pytest.mark.parametrize("intervention", ["affirmative", "all_groups"])
def test_programs_for_ideal_populations(maps, intervention):
    solve = partial(js.nearest_ideal, maps=maps, intervention=intervention)
    program = jax.jit(jax.vmap(solve))
    if maps == "diagonal":
        calls = lapack_calls(program, population(3))
        assert not {call for call, rank in calls.items() if rank > 2}
    else:
        check_no_batch(program, population(3))


def test_channels():
    pops = population(3)
    for subspace in ("discriminant", "all"):
        channel = partial(js.gaussian_channel, subspace=subspace)
        check_no_batch(jax.jit(jax.vmap(channel)), pops)


def test_transport():
    def weight(pop):
        first, second = (
            jax.tree.map(lambda leaf, i=i: leaf[i], pop.conditionals) for i in (0, 1)
        )
        return jnp.sum(first.transport_to(second).weight)

    check_no_batch(jax.jit(jax.vmap(jax.grad(weight))), population(3))


def test_low_rank_fits():
    x, codes = jnp.asarray(RNG.normal(size=(1, 80, 6))), np.arange(80)

    def fit(x):
        return js.fit_population(
            x, codes % 2, codes // 40, covariance="low_rank", rank=2
        )

    check_no_batch(jax.jit(jax.vmap(fit)), x)


def test_em(monkeypatch):
    programs = []

    def lowered(*args, **options):
        programs.append(partial(check_no_batch, _fit, *args, **options))
        return _fit(*args, **options)

    monkeypatch.setattr("jaxsteer.latent._fit._fit", lowered)
    x = RNG.normal(size=(40, 2))
    fit_rome_em(x[:, 0], x, x[:, :1], 2, restarts=3, max_steps=2)
    programs[0]()
