"""What a call may end with: a clear refusal, a status, or an answer that passes a check."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxsteer as js
from tests.fuzz.inputs import Draw

PACKAGE = str(Path(js.__file__).parent)


class Call(NamedTuple):
    """One call of a front door.

    Attributes:
        run: Calls it.
        check: Raises AssertionError unless the answer is right; returns "answer", or
            "status" where the answer says that it is none.
        names: Words of which a refusal must hold one: the arguments.
    """

    run: Callable[[], Any]
    check: Callable[[Any], str]
    names: tuple[str, ...]


class Outcome(NamedTuple):
    """How a call ended.

    Attributes:
        kind: "refused", "status", "answer"; or "deep" (a message from inside), "wrong".
        detail: The message.
    """

    kind: str
    detail: str


def judge(target: Callable[[Draw], Call], draw: Draw) -> Outcome:
    """Make the input, call, and look at the end."""
    call = target(draw)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = call.run()
            jax.block_until_ready(found)
        except Exception as error:  # every kind is judged here
            return _refusal(error, call.names)
        try:
            return Outcome(call.check(found), "")
        except Exception as error:  # input that no check can read, too
            return Outcome("wrong", f"{type(error).__name__}: {error}"[:400])


def _refusal(error: Exception, names: tuple[str, ...]) -> Outcome:
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    # What scikit-learn asks of every estimator says so in its words.
    own = last.startswith(PACKAGE) or last.endswith("sklearn/utils/validation.py")
    message = str(error)
    clear = isinstance(error, ValueError | js.SolveError) and own
    clear = clear and any(name in message for name in names)
    where = "" if own else f" in {last}"
    return Outcome(
        "refused" if clear else "deep",
        f"{type(error).__name__}{where}: {message[:300]}",
    )
