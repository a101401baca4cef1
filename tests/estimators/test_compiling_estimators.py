"""All of scikit-learn's checks for the estimators that compile at every new shape."""

from __future__ import annotations

import os

import jax
import pytest

from tests.estimators.test_check_estimator import ALL, HEAVY, group_of_row, passes, run


@pytest.fixture
def quick_compiler():
    """Compile without optimizing: what counts here is that calls and answers are right."""
    if "xla_backend_optimization_level=0" in os.environ.get("XLA_FLAGS", ""):
        yield  # as all tests do, whose programs serve here, too
        return
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", HEAVY)
def test_with_the_group_read_from_the_rows(name, quick_compiler):
    passes(name, run(ALL[name].set_params(sensitive_columns=group_of_row)), least=45)
