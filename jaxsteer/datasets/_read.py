"""Any table on disk or in memory as a pandas DataFrame."""

from __future__ import annotations

import os
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import pandas as pd

from jaxsteer._frames import to_pandas

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_COMPRESSIONS = {".gz": "gzip", ".xz": "xz", ".zip": "zip", ".bz2": "bz2"}
_PARQUET = (".parquet", ".pq")


def read_table(source: Any, *, missing: Sequence[str] = ("?",)) -> pd.DataFrame:
    """Read a table.

    Args:
        source: A path that ends in ``.csv`` or ``.tsv`` (also followed by ``.gz``,
            ``.xz``, ``.zip`` or ``.bz2``), ``.parquet`` or ``.pq``; or a pandas, polars
            or pyarrow table. The first line of a text file names the columns. A
            ``.csv`` file whose header has semicolons or tabs and no comma is split at
            those.
        missing: Texts that mean a missing value in a text file, beside the empty field
            and the usual ``NA``, ``NaN``, ``null``, ...

    Returns:
        The table with columns named by strings.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the ending is unknown, the file cannot be read as what its ending
            says, a column name is repeated, or there are no rows or no columns.

    Example:
        >>> import pandas
        >>> read_table(pandas.DataFrame({"age": [31, 47]})).shape
        (2, 1)
    """
    if isinstance(source, str | os.PathLike):
        path = pathlib.Path(source)
        table = _read_path(path, list(missing))
        what = f"The file {path}"
    else:
        table = to_pandas(source, "source")
        what = "source"
    if table.shape[1] == 0:
        raise ValueError(f"{what} has no columns.")
    if len(table) == 0:
        raise ValueError(f"{what} has no rows below its header.")
    return table


def _read_path(path: pathlib.Path, missing: list[str]) -> pd.DataFrame:
    endings = [ending.lower() for ending in path.suffixes]
    compression = _COMPRESSIONS.get(endings[-1]) if endings else None
    kind = "".join(endings[-2:-1] if compression else endings[-1:])
    if kind not in _SEPARATORS and not (kind in _PARQUET and compression is None):
        raise ValueError(
            f"The file {path} must end in {', '.join(_SEPARATORS)} (also followed by "
            f"{', '.join(_COMPRESSIONS)}) or in {' or '.join(_PARQUET)}."
        )
    if not path.is_file():
        where = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"The file {path} {where} (looked in {pathlib.Path.cwd()})."
        )
    separator = _SEPARATORS.get(kind)
    try:
        if separator is None:
            table = pd.read_parquet(path)
            header = [str(name) for name in table.columns]
        else:
            table, header = _read_text(path, separator, compression, missing)
    except ImportError as error:
        raise ImportError(
            "Parquet files need pyarrow: pip install 'jaxsteer[sklearn]'."
        ) from error
    except pd.errors.EmptyDataError:
        raise ValueError(f"The file {path} is empty.") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The file {path} is not UTF-8 text ({error.reason} at byte "
            f"{error.start}); save it as UTF-8."
        ) from error
    except Exception as error:
        # Damaged archives and Parquet files raise errors of many unrelated classes.
        raise ValueError(
            f"The file {path} cannot be read as {kind}: {str(error).strip()} Check "
            "that it is whole, and that every row has as many fields as the header."
        ) from error
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if repeated:
        raise ValueError(
            f"The file {path} has more than one column named "
            f"{', '.join(map(repr, repeated))}; rename or drop the repeats."
        )
    return table.set_axis([str(name).strip() for name in table.columns], axis=1)


def _read_text(
    path: pathlib.Path, separator: str, compression: str | None, missing: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    options: dict[str, Any] = {"compression": compression, "encoding": "utf-8-sig"}
    # The header is read for itself too: pandas renames repeated names in silence.
    header = _header(path, separator, options)
    if len(header) == 1:
        separator = next((s for s in ";\t" if s in header[0]), separator)
        header = _header(path, separator, options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        table = pd.read_csv(
            path,
            sep=separator,
            na_values=missing,
            skipinitialspace=True,
            index_col=False,
            low_memory=False,
            **options,
        )
    return table, header


def _header(path: pathlib.Path, separator: str, options: dict[str, Any]) -> list[str]:
    first = pd.read_csv(
        path, sep=separator, header=None, nrows=1, dtype=str, na_filter=False, **options
    )
    return [str(name).strip() for name in first.iloc[0]]
