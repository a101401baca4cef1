"""Which array is steered or kept: named, or the only one that can be meant."""

from __future__ import annotations

import types

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import FrozenDict

from jaxsteer.maps import DiagonalMap
from jaxsteer.nn import AffineSteer, capture_activations, insert_steering
from tests.nn import block_models as models

D = models.D
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, D)), jnp.float32)
ONE = AffineSteer(DiagonalMap(jnp.ones(D), jnp.ones(D)))

# How a block packs (weights, hidden), how to take hidden and weights out again, and the
# names under which hidden is reached.
SHAPES = {
    "tuple": (lambda w, h: (w, h), lambda o: (o[1], o[0]), 1),
    "list": (lambda w, h: [w, h], lambda o: (o[1], o[0]), 1),
    "dict": (lambda w, h: {"w": w, "h": h}, lambda o: (o["h"], o["w"]), "h"),
    "frozen": (
        lambda w, h: FrozenDict({"w": w, "h": h}),
        lambda o: (o["h"], o["w"]),
        "h",
    ),
    "named": (models.Pair, lambda o: (o.hidden, o.weights), "hidden"),
    "plain": (models.Plain, lambda o: (o.hidden, o.weights), "hidden"),
    "struct": (models.Registered, lambda o: (o.hidden, o.weights), "hidden"),
    "odd": (models.Odd, lambda o: (o.hidden, o.weights), 1),
    "object": (
        lambda w, h: types.SimpleNamespace(weights=w, hidden=h),
        lambda o: (o.hidden, o.weights),
        "hidden",
    ),
    "deep": (
        lambda w, h: (w, {"a": [None, h]}),
        lambda o: (o[1]["a"][1], o[0]),
        (1, "a", 1),
    ),
    "cache first": (
        lambda w, h: ({"k": h[..., None, :], "v": w}, h),
        lambda o: (o[1], o[0]["v"]),
        1,
    ),
}


# None does not look into some, and functions find no places in what JAX cannot take
# apart; the refusals are tested below.
LEFT_OUT = {("object", "None"), ("object", "function"), ("deep", "None")}
WAYS = [(s, w) for s in SHAPES for w in ("None", "name", "function")]


@pytest.mark.parametrize(("shape", "way"), [w for w in WAYS if w not in LEFT_OUT])
def test_outputs_of_every_shape(shape, way):
    make, take, name = SHAPES[shape]
    model = models.Holder(models.Returns(make))
    which = {"None": None, "name": name, "function": lambda o: take(o)[0]}[way]
    plain = model(X)
    with insert_steering(model, "block", ONE, which=which):
        out = model(X)
        assert type(out) is type(plain)
        np.testing.assert_array_equal(take(out)[0], 2 * X + 1)
        np.testing.assert_array_equal(take(out)[1], 1)
        if way != "None":
            with capture_activations(model, "block", which=which) as kept:
                model(X)
            np.testing.assert_array_equal(kept["block"], 2 * X + 1)
    # What the block itself returned was not changed in place.
    np.testing.assert_array_equal(take(plain)[0], 2 * X)


def test_captures_without_a_name_where_one_floating_array_is_there():
    model = models.Holder(models.Returns(lambda w, h: (w > 0, h, {"cache": w}, None)))
    with capture_activations(model, "block") as kept:
        model(X)
    np.testing.assert_array_equal(kept["block"], 2 * X)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda w, h: (h, w, h),
            rf"returns 2 floating arrays of {D} features.*which=.*\[0\]: "
            rf"float\d+\[2,3,{D}\], \[1\]: float\d+\[2,3,3\]",
        ),
        (lambda w, h: (w, 1), r"no floating arrays.*\[0\]: float\d+\[2,3,3\]"),
        (
            lambda w, h: ({"k": h}, w),
            rf"no floating.*\[0\]\['k'\]: float\d+\[2,3,{D}\]",
        ),
        (lambda w, h: (w, (h,)), r"no floating arrays"),
        (lambda w, h: (None, "x"), "returns no arrays"),
    ],
)
def test_refused_unless_it_is_the_only_one(make, message):
    model = models.Holder(models.Returns(make))
    with (
        insert_steering(model, "block", ONE),
        pytest.raises(ValueError, match=message),
    ):
        model(X)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (5, r"the output is a tuple and has no 5; it has 0, 1"),
        ((0, "q"), r"the output at \[0\] is a dict and has no 'q'; it has 'k', 'v'"),
        (0, "leads to a dict in the output, expected an array"),
        ((1, 0), r"at \[1\] is a float32\[2,3,8\] and has no 0"),
        (lambda o: o[1] + 1, "not compute another"),
        (lambda o: o[0], "returned a dict"),
    ],
)
def test_wrong_names_say_what_is_there(which, message):
    model = models.Holder(models.Returns(lambda w, h: ({"k": w, "v": w}, h)))
    with (
        insert_steering(model, "block", ONE, which=which),
        pytest.raises(ValueError, match=message),
    ):
        model(X)


def test_one_array_in_two_places_needs_keys():
    model = models.Holder(models.Returns(lambda w, h: (h, h)))
    with (
        insert_steering(model, "block", ONE, which=lambda o: o[0]),
        pytest.raises(ValueError, match="holds 2 times"),
    ):
        model(X)


@pytest.mark.parametrize("which", [True, 1.5, (), [None], ("a", 1.5)])
def test_places_that_are_none(which):
    model = models.Holder(models.Returns(lambda w, h: h))
    with pytest.raises(ValueError, match="names no place"):
        insert_steering(model, "block", ONE, which=which)
    with (
        pytest.raises(ValueError, match="names no place"),
        capture_activations(model, "block", which=which),
    ):
        pass


class Takes(nnx.Module):
    def __call__(self, positions, x, *, cache=None, rngs=None):
        assert rngs is None or isinstance(rngs, nnx.Rngs)
        return x if cache is None else (cache, x)


class TakesKeywords(nnx.Module):
    def __call__(self, *, x, cache=None):
        return x


POSITIONS = jnp.arange(3)


@pytest.mark.parametrize("which", [None, "x", 1, lambda positions, x, **rest: x])
@pytest.mark.parametrize("by_name", [False, True])
def test_inputs_by_position_and_by_keyword(which, by_name):
    model = models.Holder(Takes())
    if by_name and callable(which):
        which = lambda positions, x, rngs: x  # noqa: E731
    with insert_steering(model, "block", ONE, at="input", which=which):
        if by_name:
            out = model(x=X, positions=POSITIONS, rngs=nnx.Rngs(0))
        else:
            out = model(POSITIONS, X, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(out, X + 1)


def test_inputs_that_are_keyword_only_and_caches_that_are_none():
    model = models.Holder(TakesKeywords())
    cache = {"k": X[..., None, :]}
    with (
        insert_steering(model, "block", ONE, at="input"),
        capture_activations(model, "block", at="input") as kept,
    ):
        for memory in (None, cache):
            np.testing.assert_array_equal(model(x=X, cache=memory), X + 1)
        # What is kept came before the layer; what the block takes is at its base.
        np.testing.assert_array_equal(kept["block"], X)
        with capture_activations(model, "block.base", at="input") as inner:
            model(x=X)
        np.testing.assert_array_equal(inner["block.base"], X + 1)
        with pytest.raises(ValueError, match=r"takes 2 floating.*x: .*cache: float"):
            model(x=X, cache=X)
    with (
        insert_steering(model, "block", ONE, at="input", which=0),
        pytest.raises(ValueError, match=r"which=0 is none of the arg.*keyword x\."),
    ):
        model(x=X)


def test_token_codes_are_no_activations():
    model = models.Holder(nnx.Embed(5, D, rngs=nnx.Rngs(0)))
    tokens = jnp.array([[1, 2]])
    with (
        insert_steering(model, "block", ONE, at="input"),
        pytest.raises(ValueError, match=r"no floating.*inputs: int\d+\[1,2\]"),
    ):
        model(tokens)
