"""Encoders and learners on disk through skops, which never runs code of the file."""

from __future__ import annotations

import functools
import importlib
import inspect
import io
import pathlib
import sys
import zipfile
from collections.abc import Collection
from typing import Any

from jaxsteer._types import PathLike
from jaxsteer.storage._atomic import write_bytes
from jaxsteer.storage._hash import bytes_hash, check_hash
from jaxsteer.storage._migrate import MOVED_MODULES
from jaxsteer.storage._registry import registered_classes

# What skops does not trust by itself, and what our pipelines are made of: classes that
# hold arrays and settings only, and run nothing when they are rebuilt.
TRUSTED = frozenset(
    {
        "sklearn.compose._column_transformer._RemainderColsList",  # scikit-learn 1.6
        "numpy.dtype",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    }
)


_UNPACKED, _RATIO = 2**26, 100  # bytes, and times a file's own, that it may unpack to


@functools.cache
def own_types() -> frozenset[str]:
    """Return the qualified names of the estimators and of the results that they hold."""
    estimators = importlib.import_module("jaxsteer.estimators")
    names = (*estimators.__all__, *estimators._PARTS)
    found = [getattr(estimators, name) for name in names]
    classes = [*registered_classes().values(), *filter(inspect.isclass, found)]
    return frozenset(f"{cls.__module__}.{cls.__qualname__}" for cls in classes)


def save_pipeline(
    path: PathLike, estimator: object, *, trusted: Collection[str] = ()
) -> str:
    """Write a fitted scikit-learn estimator, such as an encoder or a learner.

    Args:
        path: The file. One that exists is replaced at once, when the new one is whole.
        estimator: An estimator of scikit-learn or of :mod:`jaxsteer.estimators`, or a
            pipeline of them. Results and maps go through :func:`save`.
        trusted: Qualified names of further types that :func:`load_pipeline` will be
            told to load.

    Returns:
        The SHA-256 hash of the file, as ``sha256sum`` prints it.

    Raises:
        ImportError: If skops is not installed.
        ValueError: If the estimator holds types that :func:`load_pipeline` would not
            load.

    Example:
        >>> import pathlib, tempfile
        >>> from sklearn.preprocessing import StandardScaler
        >>> scaler = StandardScaler().fit([[0.0], [2.0]])
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name, "scaler.skops")
        >>> digest = save_pipeline(path, scaler)
        >>> len(digest)
        64
    """
    skops = load_skops()
    try:
        data = skops.dumps(estimator)
    except Exception as error:
        # skops raises errors of many classes for what it does not know.
        raise ValueError(
            f"A {type(estimator).__name__} cannot be stored without pickle: {error}"
        ) from error
    _check_trusted(skops, data, frozenset(trusted), f"The {type(estimator).__name__}")
    write_bytes(path, data)
    return bytes_hash(data)


def load_pipeline(
    path: PathLike,
    *,
    trusted: Collection[str] = (),
    expect_hash: str | None = None,
) -> Any:
    """Read an estimator that :func:`save_pipeline` wrote.

    No code in the file is run. Boosted trees follow node numbers without checking them,
    so a file made with ill intent can still crash a prediction: load files whose origin
    you know.

    Args:
        path: The file.
        trusted: Qualified names of further types to load; look at what they do first.
        expect_hash: What :func:`save_pipeline` returned, written down elsewhere: a file
            of other bytes is refused before anything in it is read.

    Returns:
        The fitted estimator.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If skops is not installed.
        ValueError: If the file is damaged, holds a type that is not trusted, or has not
            the expected hash.

    Example:
        >>> import pathlib, tempfile
        >>> from sklearn.preprocessing import StandardScaler
        >>> scaler = StandardScaler().fit([[0.0], [2.0]])
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name, "scaler.skops")
        >>> digest = save_pipeline(path, scaler)
        >>> load_pipeline(path, expect_hash=digest).transform([[1.0]]).tolist()
        [[0.0]]
    """
    skops = load_skops()
    target = pathlib.Path(path)
    if not target.is_file():
        raise FileNotFoundError(f"The file {path} does not exist.")
    data = target.read_bytes()
    check_hash(bytes_hash(data), expect_hash, path)
    try:
        _check_size(data)
        skops.get_untrusted_types(data=data)
    except Exception as error:
        raise ValueError(_damaged(path, error)) from error
    names = _check_trusted(skops, data, frozenset(trusted), f"The file {path}")
    try:
        return skops.loads(data, trusted=names)
    except Exception as error:
        # A schema that nothing wrote fails in skops or in NumPy, in many ways; an array
        # whose header claims more than memory holds is a MemoryError.
        raise ValueError(_damaged(path, error)) from error


def _damaged(path: PathLike, error: Exception) -> str:
    return (
        f"The file {path} is damaged or was not written by save_pipeline: "
        f"{type(error).__name__}: {error}"
    )


def _check_size(data: bytes) -> None:
    """Refuse archives that unpack to a multiple of themselves; skops packs nothing."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        claimed = sum(entry.file_size for entry in archive.infolist())
    if claimed > max(_UNPACKED, _RATIO * len(data)):
        raise ValueError(f"{len(data)} bytes claim to unpack to {claimed}")


def _check_trusted(
    skops: Any, data: bytes, trusted: frozenset[str], what: str
) -> list[str]:
    untrusted = skops.get_untrusted_types(data=data)
    unknown = set(untrusted) - TRUSTED - trusted
    if unknown:
        unknown = {name for name in unknown if _present_name(name) not in own_types()}
    unknown = sorted(unknown)
    if unknown:
        raise ValueError(
            f"{what} holds types that are not trusted: {', '.join(unknown)}. If you "
            "know them to be safe, name them: trusted=[...]. Results of jaxsteer are "
            "stored by jaxsteer.storage.save."
        )
    return untrusted


def _present_name(name: str) -> str:
    """A class's qualified name today; its old module becomes another name of the new."""
    module, _, cls = name.rpartition(".")
    present = MOVED_MODULES.get(module)
    if present is None:
        return name
    sys.modules.setdefault(module, importlib.import_module(present))
    return f"{present}.{cls}"


def load_skops() -> Any:
    """Return skops' reader and writer, loaded as quickly as it can be.

    Loading it sets and resets the warnings of the whole process, so that nothing that
    needs its own may run beside it.

    Raises:
        ImportError: If it is not installed.
    """
    # skops makes scikit-learn load all that it has, and so the frameworks that its
    # arrays may be of, which takes seconds and serves nothing here.
    aside = "torch" not in sys.modules
    if aside:
        # Loads what would look at that empty place; JAX brings SciPy.
        importlib.import_module("scipy.stats")
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import skops.io
    except ModuleNotFoundError as error:
        raise ImportError(
            "Storing estimators needs skops: pip install 'jaxsteer[sklearn]'."
        ) from error
    finally:
        if aside:
            sys.modules.pop("torch", None)
    return skops.io
