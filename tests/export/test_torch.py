"""The same map gives the same logits in PyTorch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsteer.export import attach, hook_source, to_numpy, to_torch
from jaxsteer.maps import AffineMap, DiagonalMap, LowRankMap
from jaxsteer.models import Decoder, DecoderConfig
from jaxsteer.nn import (
    AffineSteer,
    GroupSteer,
    insert_steering,
    set_groups,
    set_positions,
)

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from tests.export import torch_llama  # noqa: E402

D = 16
rng = np.random.default_rng(0)
TOKENS = rng.integers(0, 19, (3, 6))
GROUP = np.array([1, 0, 1])


def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


MAPS = AffineMap(jnp.eye(D) + 0.3 * draw(2, D, D), draw(2, D))
ONE = jax.tree.map(lambda leaf: leaf[0], MAPS)


@pytest.fixture(scope="module")
def both():
    config = DecoderConfig(
        vocab_size=19,
        dim=D,
        hidden_dim=24,
        n_layers=3,
        n_heads=4,
        n_kv_heads=2,
        max_length=16,
    )
    ours = Decoder(config, rngs=nnx.Rngs(0))
    run = nnx.jit(lambda model, tokens: model(tokens))
    return ours, lambda: np.asarray(run(ours, TOKENS)), torch_llama.Llama(ours).eval()


def logits(theirs):
    with torch.no_grad():
        return theirs(torch.from_numpy(TOKENS)).numpy()


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_logits_agree_with_one_map_at_every_place(both):
    ours, run, theirs = both
    plain = run()
    close(logits(theirs), plain)
    layer = AffineSteer(ONE, strength=0.7)
    for at, positions in (("output", "all"), ("output", "last"), ("input", "all")):
        with insert_steering(ours, "layers.1", layer, at=at, positions=positions):
            expected = run()
        assert np.abs(expected - plain).max() > 0.05
        hook = attach(theirs, "layers.1", to_torch(layer), at=at, positions=positions)
        close(logits(theirs), expected)
        hook.remove()
    close(logits(theirs), plain)


def test_logits_agree_with_a_map_for_each_group(both):
    ours, run, theirs = both
    layer = GroupSteer(MAPS)
    with insert_steering(ours, "layers.0.mlp", layer):
        set_groups(ours, GROUP)
        expected = run()
    steer = to_torch(MAPS)
    hook = attach(theirs, "layers.0.mlp", steer)
    with pytest.raises(ValueError, match=r"set steer\.group"):
        logits(theirs)
    steer.group = torch.from_numpy(GROUP)
    close(logits(theirs), expected)
    hook.remove()


def test_the_file_without_jaxsteer_does_the_same(both, tmp_path):
    numpy = pytest.importorskip("safetensors.numpy", reason="no safetensors")
    ours, run, theirs = both
    weights = tmp_path / "map.safetensors"
    numpy.save_file(vars(to_numpy(ONE)), weights)
    for at, positions in (("output", "last"), ("output", "prompt"), ("input", "all")):
        with insert_steering(ours, "layers.1", AffineSteer(ONE, strength=0.5), at=at):
            set_positions(ours, positions)
            expected = run()
        source = hook_source("layers.1", at=at, positions=positions, strength=0.5)
        assert "jaxsteer" not in source.split('"""')[2]
        scope: dict = {}
        exec(compile(source, "hook.py", "exec"), scope)
        handle = scope["steer"](theirs, weights)
        close(logits(theirs), expected)
        handle.remove()


def test_the_identity_changes_no_bit_and_dtypes_stay():
    steer = to_torch(AffineMap.identity(D))
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        x = torch.randn(2, 3, D, dtype=dtype)
        assert steer(x).dtype == dtype and torch.equal(steer(x), x)
    steer = to_torch(DiagonalMap(jnp.ones(D), jnp.ones(D)))
    steer.strength.fill_(2.0)
    assert torch.equal(steer(torch.zeros(1, D)), torch.full((1, D), 2.0))
    # A module like any other: it is saved, and its buffers move with it.
    assert set(steer.state_dict()) == {"kernel", "bias", "strength"}


class Returns(torch.nn.Module):
    def __init__(self, make):
        super().__init__()
        self.inner = Inner(make)

    def forward(self, x):
        return self.inner(x)


class Inner(torch.nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


def test_which_tensor_is_steered():
    steer = to_torch(AffineMap(jnp.eye(D), jnp.ones(D)))
    x = torch.zeros(1, 2, D)
    cases = [
        (lambda x: (x[..., :3], x), None, 1),
        (lambda x: {"a": None, "h": x}, None, "h"),
        (lambda x: (x, x), 1, 1),
    ]
    for make, which, key in cases:
        model = Returns(make)
        attach(model, "inner", steer, which=which)
        out = model(x)
        assert torch.equal(out[key], x + 1)
    for make, which in [(lambda x: (x, x), None), (lambda x: (x, x), "h")]:
        model = Returns(make)
        attach(model, "inner", steer, which=which)
        with pytest.raises(ValueError, match=r"say which=.*0: torch\.float32"):
            model(x)
    # A step of decoding is the last token, and none of the prompt's.
    model = Returns(lambda x: x)
    hook = attach(model, "inner", steer, positions="prompt")
    assert torch.equal(model(x[:, :1]), x[:, :1])
    hook.remove()
    attach(model, "inner", steer, positions="last")
    assert torch.equal(model(x[:, :1]), x[:, :1] + 1)


def test_arrays_of_maps_and_of_layers():
    low = LowRankMap(draw(D, 2), draw(D, 2), draw(D))
    diagonal = DiagonalMap(draw(D), draw(D))
    x = draw(4, D)
    for map_ in (ONE, low, diagonal):
        arrays = to_numpy(map_, strength=0.5)
        expected = (x + (map_(x) if map_ is not low else low.to_dense()(x))) / 2
        found = np.asarray(x) @ arrays.weight.T + arrays.bias
        np.testing.assert_allclose(found, expected, atol=1e-5)
    layer = AffineSteer(ONE, strength=0.5)
    np.testing.assert_allclose(
        to_numpy(layer).weight, to_numpy(ONE, strength=0.5).weight, atol=1e-6
    )
    assert to_numpy(MAPS, dtype=np.float64).weight.dtype == np.float64
    assert to_numpy(MAPS).change.shape == (2, D, D)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_numpy(jnp.sin), "map is a"),
        (
            lambda: to_numpy(AffineMap(jnp.ones((2, 3)), jnp.ones(2))),
            "keeps the number",
        ),
        (lambda: to_numpy(ONE, strength=jnp.ones(2)), "one number"),
        (lambda: jax.jit(lambda m: to_numpy(m).bias)(ONE), "outside of jit"),
        (lambda: to_torch(jax.tree.map(lambda a: a[None], MAPS)), "leading axes"),
        (lambda: attach(None, "a", None, at="middle"), "'output', 'input'"),
        (lambda: attach(None, "a", None, positions="first"), "'all', 'last'"),
        (lambda: hook_source("a", at="middle"), "'output', 'input'"),
        (lambda: hook_source("a", positions="first"), "'all', 'last'"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
