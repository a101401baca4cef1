"""Every front door on random input: refused clearly, a status, or a checked answer.

The short run. The long one is ``python benchmarks/fuzz.py --calls 20000``; more examples
here by ``JAXSTEER_FUZZ_EXAMPLES=100 pytest tests/fuzz``, which shrinks what it finds.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.fuzz.estimators import ESTIMATORS
from tests.fuzz.files import FILES
from tests.fuzz.further import FURTHER
from tests.fuzz.inputs import Draw
from tests.fuzz.judge import Call, judge
from tests.fuzz.populations import POPULATIONS
from tests.fuzz.rows import ROWS

TARGETS = {**ROWS, **FURTHER, **POPULATIONS, **FILES, **ESTIMATORS}
EXAMPLES = int(os.environ.get("JAXSTEER_FUZZ_EXAMPLES", "10"))


@pytest.mark.parametrize("name", sorted(TARGETS))
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_nothing_is_silently_wrong(name, data, seed):
    rng = np.random.default_rng(seed)
    draw = Draw(lambda choices: data.draw(st.sampled_from(choices)), rng)
    outcome = judge(TARGETS[name], draw)
    note(f"{draw.log}: {outcome.kind}, {outcome.detail}")
    assert outcome.kind in ("answer", "refused", "status"), outcome.detail


def plain() -> Draw:
    """The first of every list of choices."""
    return Draw(lambda choices: choices[0], np.random.default_rng(0))


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_plain_input_is_answered(name):
    outcome = judge(TARGETS[name], plain())
    expected = "refused" if name in ("models.load_decoder (GGUF)",
                                     "models.load_decoder (llama2.c)",
                                     "models.load_tokenizer",
                                     "storage.load_pipeline") else "answer"  # fmt: skip
    assert outcome.kind == expected, outcome.detail


def test_the_judge_sees_what_is_wrong():
    """Messages from inside, wrong answers and refusals that name nothing are caught."""

    def call(run, check=lambda found: "answer"):
        return judge(lambda draw: Call(run, check, ("x",)), plain())

    assert call(lambda: np.zeros(2)[3]).kind == "deep"
    assert call(lambda: int("x")).kind == "deep"

    def wrong(found):
        raise AssertionError(found)

    assert call(lambda: 1, wrong).kind == "wrong"
    assert call(lambda: 1).kind == "answer"
