"""Language models to steer, in Flax NNX, read from the files their authors publish.

:class:`Decoder` is Llama-style (SmolLM2, stories260K), :class:`Encoder` BERT-style
(all-MiniLM-L6-v2): small, without options that no published weights use, and made of
plain submodules, so that :func:`jaxsteer.nn.insert_steering` reaches every place by path.
Reading GGUF, safetensors and ``tokenizer.json`` needs ``pip install 'jaxsteer[llm]'``.
"""

from jaxsteer.models._cache import KeyValues, KVCache
from jaxsteer.models._configs import DecoderConfig, EncoderConfig
from jaxsteer.models._decoder import Decoder
from jaxsteer.models._embed_texts import embed_texts, token_batches
from jaxsteer.models._encoder import Encoder
from jaxsteer.models._generate import generate
from jaxsteer.models._load import load_decoder, load_encoder
from jaxsteer.models._tokenizer import (
    LibraryTokenizer,
    PieceTokenizer,
    Tokenizer,
    load_tokenizer,
    pad_tokens,
)

__all__ = [
    "embed_texts",
    "generate",
    "load_decoder",
    "load_encoder",
    "load_tokenizer",
    "pad_tokens",
    "token_batches",
]
