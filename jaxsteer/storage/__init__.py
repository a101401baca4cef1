"""Results and pipelines on disk, without pickle: nothing in a file is ever run."""

from jaxsteer.storage._atomic import atomic_file, write_bytes, write_text
from jaxsteer.storage._file import Stored, load, save
from jaxsteer.storage._hash import content_hash, file_hash
from jaxsteer.storage._maps import StoredMap, load_map, save_map
from jaxsteer.storage._pipeline import load_pipeline, save_pipeline

__all__ = [
    "load",
    "load_map",
    "load_pipeline",
    "save",
    "save_map",
    "save_pipeline",
]
