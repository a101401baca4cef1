from __future__ import annotations

import re

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsteer.solvers import SolveError, Status, require_converged


def test_every_code_has_its_own_message():
    messages = [status.message for status in Status]
    assert len(set(messages)) == len(Status) == 6
    for message in messages:
        assert message.endswith(".")
        assert message[0].isupper()
    assert [int(s) for s in Status] == list(range(6))  # stored in files and arrays


@pytest.mark.parametrize("status", [s for s in Status if s != Status.CONVERGED])
def test_single_failure_is_named_and_explained(status):
    code = jnp.asarray(int(status), jnp.int32)
    expected = f"my solve: {status.name}. {status.message}"
    with pytest.raises(SolveError, match=f"^{re.escape(expected)}$"):
        require_converged(code, "my solve")


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_success_is_silent(shape):
    assert require_converged(jnp.zeros(shape, jnp.int32), "it") is None


def test_rows_of_a_batch_are_named():
    codes = jnp.array([0, 1, 0, 3, 1])
    with pytest.raises(SolveError) as caught:
        require_converged(codes, "batch")
    text = str(caught.value)
    assert text.startswith(
        "batch: 3 of 5 problems failed (row 1: MAX_STEPS; row 3: NONFINITE; "
        "row 4: MAX_STEPS)."
    )
    for status in (Status.MAX_STEPS, Status.NONFINITE):
        assert text.count(f"{status.name}: {status.message}") == 1
    assert Status.STALLED.message not in text


def test_rows_of_two_batch_axes():
    codes = np.zeros((2, 3), int)
    codes[1, 2] = Status.INFEASIBLE
    with pytest.raises(SolveError, match=r"1 of 6 .*\(row 1, 2: INFEASIBLE\)\. INFEAS"):
        require_converged(codes, "grid")


def test_long_lists_are_cut():
    codes = np.full(25, Status.STALLED)
    with pytest.raises(SolveError, match=r"25 of 25 .*row 9: STALLED and 15 more\)"):
        require_converged(codes, "many")
