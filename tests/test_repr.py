"""Results as text: status by name, shapes and figures, and never an array."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsteer as js
from jaxsteer._pytrees import register_dataclass
from jaxsteer._repr import (
    dataclass_html,
    html_table,
    one_line,
    status_name,
    text_table,
)
from jaxsteer.solvers import Status


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Found:
    maps: js.AffineMap
    status: jax.Array
    kl: jax.Array
    noise: jax.Array | None = None
    name: str = dataclasses.field(default="one", metadata={"static": True})


def found(status=0) -> Found:
    maps = js.AffineMap(jnp.eye(2), jnp.zeros(2))
    return Found(maps, jnp.asarray(status, jnp.int32), jnp.asarray(0.123456))


def test_a_result_is_one_line():
    bits = jnp.zeros(()).dtype.itemsize * 8
    assert repr(found()) == (
        f"Found(maps=AffineMap(weight=f{bits}[2, 2], bias=f{bits}[2]), "
        "status=CONVERGED, kl=0.1235, name='one')"
    )
    assert "status=STALLED" in repr(found(2))
    assert "status=1 CONVERGED, 2 STALLED" in repr(found([0, 2, 2]))
    assert one_line(found(), depth=0) == "Found(...)"


def test_traced_results_and_placeholders_have_a_text_too():
    texts = []

    @jax.jit
    def program(result):
        texts.append(repr(result))
        return result.kl

    program(found())
    assert texts[0].startswith("Found(maps=AffineMap(weight=f")
    hollow = jax.tree.map(lambda _: object(), found())
    assert repr(hollow).startswith("Found(maps=AffineMap(weight=<object")
    assert "key" in one_line(jax.random.key(0))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.zeros((3, 4), np.int8), "i8[3, 4]"),
        (np.array(["f", "m"]), "f, m"),
        (np.float32(0.5), "0.5"),
        (np.array(True), "True"),
        (np.zeros(2, bool), "bool[2]"),
        (jnp.zeros(3, jnp.bfloat16), "bfloat16[3]"),
        ("a  b", "'a b'"),
        ((1, 2.5, "x"), "(1, 2.5, 'x')"),
        (list(range(30)), "(0, 1, 2, 3, 4, 5, 6, 7, ... 30 in all)"),
        ({"a": np.zeros(9)}, "{a}"),
        (None, "None"),
    ],
)
def test_values(value, text):
    assert one_line(value) == text


def test_long_texts_are_cut():
    assert one_line("x" * 99).endswith("...") and len(one_line("x" * 99)) == 60


def test_status_of_what_is_none():
    assert status_name(Status.NONFINITE) == "NONFINITE"
    assert status_name("?") == "'?'"


def test_tables():
    assert text_table([("a", "1"), ("long", "22")], ("name", "n")).splitlines() == [
        "name  n",
        "a     1",
        "long  22",
    ]
    page = html_table([("<b>", "1")], caption="a & b")
    assert "&lt;b&gt;" in page and "<caption>a &amp; b</caption>" in page
    shown = found()._repr_html_()  # type: ignore[attr-defined]
    assert shown == dataclass_html(found()) and "<td>CONVERGED</td>" in shown


def test_own_texts_are_kept():
    @register_dataclass
    @dataclasses.dataclass(frozen=True, repr=False)
    class Own:
        x: float

        def __repr__(self) -> str:
            return "mine"

    assert repr(Own(1.0)) == "mine"
