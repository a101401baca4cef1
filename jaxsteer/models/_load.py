"""Models from files."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
from flax import nnx

from jaxsteer._types import DTypeLike, PathLike
from jaxsteer.models._decoder import Decoder
from jaxsteer.models._encoder import Encoder
from jaxsteer.models._gguf import read_gguf
from jaxsteer.models._llama2c import read_llama2c
from jaxsteer.models._safetensors import read_bert_folder, read_llama_folder
from jaxsteer.models._weights import fill, reading


def load_decoder(
    path: PathLike,
    *,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
) -> Decoder:
    """Read a Llama-style language model.

    Args:
        path: A ``.gguf`` file, a llama2.c ``.bin`` file, or a folder (or one file in
            it) with ``config.json`` and ``*.safetensors`` as Hugging Face writes them.
            The first and the last need the extra ``llm``.
        dtype: Precision of the activations.
        param_dtype: Precision of the weights; quantized ones are expanded to it.

    Returns:
        The model.

    Raises:
        ValueError: If the file is of another kind, or its weights do not fit its header.
        FileNotFoundError: If nothing is there.

    Example:
        ::

            model = load_decoder("SmolLM2-135M-Instruct-Q8_0.gguf")
            tokenizer = load_tokenizer("SmolLM2-135M-Instruct-Q8_0.gguf")
    """
    path = _existing(path)
    with reading(path):
        if path.suffix == ".gguf":
            config, weights = read_gguf(path)
        elif path.suffix == ".bin":
            config, weights = read_llama2c(path)
        else:
            config, weights = read_llama_folder(_folder(path))

        def make() -> Decoder:
            rngs = nnx.Rngs(0)
            return Decoder(config, dtype=dtype, param_dtype=param_dtype, rngs=rngs)

        return fill(make, weights, param_dtype)


def load_encoder(
    path: PathLike,
    *,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
) -> Encoder:
    """Read a BERT-style encoder, such as all-MiniLM-L6-v2. Needs the extra ``llm``.

    Args:
        path: A folder (or one file in it) with ``config.json`` and ``*.safetensors``.
        dtype: Precision of the activations.
        param_dtype: Precision of the weights.

    Returns:
        The model.

    Raises:
        ValueError: If the folder holds another kind of model.
        FileNotFoundError: If nothing is there.

    Example:
        ::

            model = load_encoder("all-MiniLM-L6-v2")
            vectors = embed_texts(model, load_tokenizer("all-MiniLM-L6-v2"), ["a text"])
    """
    path = _existing(path)
    with reading(path):
        config, weights = read_bert_folder(_folder(path))

        def make() -> Encoder:
            rngs = nnx.Rngs(0)
            return Encoder(config, dtype=dtype, param_dtype=param_dtype, rngs=rngs)

        return fill(make, weights, param_dtype)


def _existing(path: PathLike) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No model at {path}.")
    return path


def _folder(path: Path) -> Path:
    if path.is_dir():
        return path
    if path.suffix == ".safetensors":
        return path.parent
    raise ValueError(
        f"{path} is no model that is read here; pass a .gguf file, a llama2.c .bin file "
        f"or a folder with config.json and *.safetensors."
    )
