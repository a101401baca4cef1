"""Files in the form that vLLM writes stream into moments."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from jaxsteer import moments
from jaxsteer.export import hidden_state_moments, read_hidden_states

st = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")

L, D = 3, 4
LENGTHS = {"a": 2, "b": 5, "c": 1, "d": 3, "e": 4}
LABEL = {"a": 0, "b": 1, "c": 0, "d": 1, "e": 1}
GROUP = {"a": 0, "b": 1, "c": 1, "d": 0, "e": 1}


def write(path, length, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(length, L, D)).astype(dtype)
    ids = rng.integers(0, 100, length)
    st.save_file({"token_ids": ids, "hidden_states": states}, path)
    return ids, states


@pytest.fixture
def folder(tmp_path):
    for seed, (name, length) in enumerate(LENGTHS.items()):
        write(tmp_path / f"{name}.safetensors", length, seed=seed)
    return tmp_path


def rows_of(folder, tokens, layer):
    """All rows at once: the plain way."""
    rows, label, group = [], [], []
    for name in LENGTHS:
        states = st.load_file(folder / f"{name}.safetensors")["hidden_states"][:, layer]
        rows += {"last": [states[-1]], "mean": [states.mean(0)], "all": list(states)}[
            tokens
        ]
        label += [LABEL[name]] * (len(rows) - len(label))
        group += [GROUP[name]] * (len(rows) - len(group))
    return np.array(rows), np.array(label), np.array(group)


@pytest.mark.parametrize("tokens", ["last", "mean", "all"])
def test_moments_are_those_of_all_rows(folder, tokens):
    found = hidden_state_moments(
        folder,
        [2, 0],
        LABEL,
        lambda request: GROUP[request.name],
        n_classes=2,
        n_groups=2,
        tokens=tokens,
        scatter="pooled",
        batch_rows=4,
    )
    assert list(found) == [2, 0]
    for layer, state in found.items():
        x, label, group = rows_of(folder, tokens, layer)
        start = moments.init(D, n_classes=2, n_groups=2, scatter="pooled")
        whole = moments.update(start, x, label, group)
        np.testing.assert_array_equal(state.mass, whole.mass)
        np.testing.assert_allclose(state.mean, whole.mean, atol=1e-6)
        np.testing.assert_allclose(state.cov, whole.cov, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_narrow_numbers(tmp_path, dtype):
    ids, states = write(tmp_path / "r.safetensors", 3, dtype)
    (request,) = read_hidden_states(tmp_path, [1], tokens="all")
    assert request.name == "r"
    np.testing.assert_array_equal(request.token_ids, ids)
    assert request.states[1].dtype == np.float32
    np.testing.assert_array_equal(request.states[1], states[:, 1].astype(np.float32))


def test_refusals(folder, tmp_path_factory):
    with pytest.raises(ValueError, match="'last', 'mean', 'all'"):
        next(read_hidden_states(folder, [0], tokens="first"))
    with pytest.raises(ValueError, match=r"layers=\[3\].*0\.\.2"):
        next(read_hidden_states(folder, [3]))
    with pytest.raises(ValueError, match="label has no code for the request 'a'"):
        hidden_state_moments(folder, [0], {}, n_classes=1)
    with pytest.raises(ValueError, match="batch_rows=0"):
        hidden_state_moments(folder, [0], LABEL, n_classes=2, batch_rows=0)
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(ValueError, match=r"no \.safetensors"):
        next(read_hidden_states(empty, [0]))
    for content, message in [
        (b"\xff" * 20, "damaged"),
        ((folder / "b.safetensors").read_bytes()[:-8], "shorter than it says"),
    ]:
        (empty / "x.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            next(read_hidden_states(empty, [0]))
    st.save_file({"other": np.zeros(3)}, empty / "x.safetensors")
    with pytest.raises(ValueError, match="holds other; expected"):
        next(read_hidden_states(empty, [0]))
    wrong = {"token_ids": np.zeros(2, int), "hidden_states": np.zeros((3, L, D))}
    st.save_file(wrong, empty / "x.safetensors")
    with pytest.raises(ValueError, match="2 token_ids and hidden states of 3"):
        next(read_hidden_states(empty, [0]))
