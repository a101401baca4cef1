"""Any table on disk or in memory as a pandas DataFrame."""

from __future__ import annotations

import bz2
import codecs
import dataclasses
import functools
import gzip
import lzma
import os
import pathlib
import re
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from jaxsteer._errors import check_choice
from jaxsteer._frames import to_pandas
from jaxsteer._numerals import find_numerals, read_numerals
from jaxsteer._types import PARQUET, PathLike
from jaxsteer.datasets._last_line import check_last_line
from jaxsteer.datasets._lines import Lines, TextTable, read_lines, text_of
from jaxsteer.datasets._separator import SAMPLE, find_separator
from jaxsteer.datasets._thousands import read_thousands

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_COMPRESSIONS = {".gz": "gzip", ".xz": "xz", ".zip": "zip", ".bz2": "bz2"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Options:
    missing: Sequence[str]
    usual_missing: bool
    encoding: str | None
    separator: str | None
    decimal: str | None


def read_table(
    source: PathLike,
    *,
    missing: Sequence[str] = ("?",),
    usual_missing: bool = True,
    encoding: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
) -> pd.DataFrame:
    """Read a table.

    Args:
        source: A path that ends in ``.csv`` or ``.tsv`` (also followed by ``.gz``,
            ``.xz``, ``.zip`` or ``.bz2``), ``.parquet`` or ``.pq``; or a pandas, polars
            or pyarrow table. The first line of a text file names the columns. A
            ``.csv`` file whose header has semicolons, tabs or bars and no comma is split at
            those, and where semicolons part the fields, numbers may have decimal
            commas. Blanks around a field are no part of it.
        missing: Texts that mean a missing value in a text file, beside the empty field
            and the usual ones.
        usual_missing: Whether ``NA``, ``NaN``, ``None``, ``null`` and the other usual
            texts mean a missing value; False keeps them as values.
        encoding: Encoding of a text file, such as ``"latin-1"``. None finds it: a byte
            order mark, else UTF-8, else what charset-normalizer takes the bytes for,
            where that is installed.
        separator: What parts the fields of a text file, None to find it.
        decimal: "." or ",", the decimal mark of a text file. None takes commas where
            semicolons part the fields, else points; columns in which nearly all texts
            are numbers of the other kind are read so by the encoder.

    Returns:
        The table with columns named by strings.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the ending is unknown, the file cannot be read as what its ending
            says, a column name is repeated with other values, or there are no rows or no
            columns.

    Warns:
        UserWarning: If a column stands there twice, with the same name and values, or an
            encoding or a separator other than the usual one was found.

    Example:
        >>> import pandas
        >>> read_table(pandas.DataFrame({"age": [31, 47]})).shape
        (2, 1)
    """
    options = _options(missing, usual_missing, encoding, separator, decimal)
    return _read(source, options, keep_text=False).frame


def read_text_table(
    path: PathLike,
    *,
    missing: Sequence[str] = ("?",),
    usual_missing: bool = True,
    encoding: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
) -> TextTable:
    r"""Read a file like :func:`read_table`, and keep the text of its fields.

    Args:
        path: The file.
        missing: As for :func:`read_table`, and so are the others.
        usual_missing: Likewise.
        encoding: Likewise.
        separator: Likewise.
        decimal: Likewise.

    Returns:
        The table, and the text of each field.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As :func:`read_table`.

    Example:
        >>> import pathlib, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name, "rows.csv")
        >>> _ = path.write_text("zip,age\n0123,31\n4567,47\n")
        >>> read_text_table(path).frame["age"].tolist()
        [31, 47]

    Warns:
        UserWarning: If texts that may be meant as values ("None", "NA") were read as
            missing values.
    """
    options = _options(missing, usual_missing, encoding, separator, decimal)
    return _read(path, options, keep_text=True)


def _options(
    missing: Sequence[str],
    usual_missing: bool,
    encoding: str | None,
    separator: str | None,
    decimal: str | None,
) -> _Options:
    # A shell hands over the backslash and the letter.
    separator = "\t" if separator == "\\t" else separator
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise ValueError(
            f"separator={separator!r} must be one character, such as ';', or None to "
            "find it."
        )
    check_choice("decimal", decimal, (None, ".", ","))
    return _Options(
        missing=[missing] if isinstance(missing, str) else missing,
        usual_missing=usual_missing,
        encoding=encoding,
        separator=separator,
        decimal=decimal,
    )


def _read(source: PathLike, options: _Options, *, keep_text: bool) -> TextTable:
    if isinstance(source, str | os.PathLike):
        path = pathlib.Path(source)
        read = _read_path(path, options, keep_text)
        what = f"The file {path}"
    else:
        table = to_pandas(source, "source")
        read = TextTable(frame=table, text=table)
        what = "source"
    table = read.frame
    if table.shape[1] == 0:
        raise ValueError(f"{what} has no columns.")
    if len(table) == 0:
        raise ValueError(f"{what} has no rows below its header.")
    return read


def _read_path(path: pathlib.Path, options: _Options, keep_text: bool) -> TextTable:
    endings = [ending.lower() for ending in path.suffixes]
    compression = _COMPRESSIONS.get(endings[-1]) if endings else None
    kind = "".join(endings[-2:-1] if compression else endings[-1:])
    if kind not in _SEPARATORS and not (kind in PARQUET and compression is None):
        raise ValueError(
            f"The file {path} must end in {', '.join(_SEPARATORS)} (also followed by "
            f"{', '.join(_COMPRESSIONS)}) or in {' or '.join(PARQUET)}."
        )
    if not path.is_file():
        where = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"The file {path} {where} (looked in {pathlib.Path.cwd()})."
        )
    try:
        if kind in PARQUET:
            table, text = pd.read_parquet(path), None
            header = [str(name).strip() for name in table.columns]
        else:
            found = _with_encoding(path, compression, options)
            table, text, header = _read_text(
                path, _SEPARATORS[kind], compression, found, keep_text
            )
    except ImportError as error:
        raise ImportError(
            "Parquet files need pyarrow: pip install 'jaxsteer[sklearn]'."
        ) from error
    except pd.errors.EmptyDataError:
        raise ValueError(f"The file {path} is empty.") from None
    except LookupError as error:
        raise ValueError(
            f"encoding={options.encoding!r} is not known: {error}; try utf-8, latin-1, "
            "cp1252 or utf-16."
        ) from error
    except UnicodeError as error:
        name = "UTF-8" if options.encoding in (None, "utf-8") else options.encoding
        raise ValueError(
            f"The file {path} is not {name} text ({error}); name its encoding (latin-1, "
            "cp1252, utf-16, ...), or save it as UTF-8."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # of many unrelated classes, for damaged files
        raise ValueError(
            f"The file {path} cannot be read as {kind}: {str(error).strip()} Check "
            "that it is whole, and that every row has as many fields as the header."
        ) from error
    # A column without a name gets the one that pandas makes up.
    names = [
        name or str(made_up)
        for name, made_up in zip(header, table.columns, strict=True)
    ]
    table = table.set_axis(names, axis=1)
    if text is not None and options.usual_missing:
        _warn_of_missing_texts(table, text, options.missing)
    if text is None or isinstance(text, Lines):
        written = table if text is None else text
    else:
        written = text.set_axis(header, axis=1)
    return TextTable(frame=_without_repeats(table, path), text=written)


def _without_repeats(table: pd.DataFrame, path: pathlib.Path) -> pd.DataFrame:
    """Leave out columns that stand there twice, with the same name and values."""
    names = list(table.columns)
    first: dict[str, int] = {}
    kept, repeats = [], []
    for place, name in enumerate(names):
        start = first.setdefault(name, place)
        if name and start != place:
            if not table.iloc[:, place].equals(table.iloc[:, start]):
                raise ValueError(
                    f"The file {path} has more than one column named {name!r}, and they "
                    "differ; rename or drop the repeats."
                )
            repeats.append(repr(name))
        else:
            kept.append(place)
    if repeats:
        warnings.warn(
            f"The file {path} holds the columns {', '.join(repeats)} twice, with the "
            "same values; the first of each is used.",
            stacklevel=4,
        )
    return table.iloc[:, kept] if repeats else table


def _with_encoding(
    path: pathlib.Path, compression: str | None, options: _Options
) -> _Options:
    """Find the encoding where none is named, and say so if it is no UTF-8."""
    if options.encoding is not None:
        return options
    name = _sniffed(path, compression)
    if name not in ("utf-8", "utf-8-sig"):
        warnings.warn(
            f"The file {path} is no UTF-8 text and was read as {name}, which its bytes "
            "look like; if letters came out wrong, name the encoding (--encoding, or "
            "encoding=).",
            stacklevel=5,
        )
    return dataclasses.replace(options, encoding=name)


def _sample(path: pathlib.Path, compression: str | None, encoding: str | None) -> str:
    """Return the beginning of a text file, nothing of what is packed in a zip."""
    if compression == "zip":
        return ""
    with _OPENED[compression](path, "rt", encoding=encoding, errors="replace") as file:
        return file.read(SAMPLE)


_OPENED: dict[str | None, Any] = {
    "gzip": gzip.open,
    "xz": lzma.open,
    "bz2": bz2.open,
    None: open,
}


_SAMPLE = 1 << 20
_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def _sniffed(path: pathlib.Path, compression: str | None) -> str:
    if compression == "zip":
        return "utf-8"
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _OPENED[compression](path, "rb") as file:
        head = start = file.read(_SAMPLE)
        for mark, name in _MARKS.items():
            if head.startswith(mark):
                return name
        try:
            while head:
                decoder.decode(head)
                head = file.read(_SAMPLE)
            decoder.decode(b"", final=True)
            return "utf-8"
        except UnicodeDecodeError:
            pass
    try:
        import charset_normalizer
    except ModuleNotFoundError:
        return "utf-8"
    try:
        guess = charset_normalizer.from_bytes(start, cp_isolation=_PAGES).best()
    except (ValueError, LookupError):
        return "utf-8"
    # Without words of some language in it the guess is none.
    if guess is None or not guess.coherence:
        return "utf-8"
    try:
        # The code page of most such files, wherever it reads the same.
        if start.decode("cp1252") == str(guess):
            return "cp1252"
    except UnicodeDecodeError:
        pass
    return guess.encoding


_PAGES = [
    *(f"cp125{i}" for i in range(7)),
    *("shift_jis", "gb18030", "big5", "euc_kr"),
]


def _read_text(
    path: pathlib.Path,
    separator: str,
    compression: str | None,
    wanted: _Options,
    keep_text: bool,
) -> tuple[pd.DataFrame, pd.DataFrame | Lines | None, list[str]]:
    encoding = "utf-8-sig" if wanted.encoding == "utf-8" else wanted.encoding
    options: dict[str, Any] = {"compression": compression, "encoding": encoding}
    separator = wanted.separator or separator
    # The header is read for itself too: pandas renames repeated names in silence.
    header = _header(path, separator, options)
    if wanted.separator is None:
        sample = functools.partial(_sample, path, compression, encoding)
        found = find_separator(header, sample, separator)
        if found != separator:
            separator = found
            header = _header(path, separator, options)
            warnings.warn(
                f"The fields of {path} are parted by {separator!r}"
                + (
                    ", so numbers are read with decimal commas (--decimal or decimal= "
                    "says otherwise)."
                    if separator == ";" and wanted.decimal is None
                    else "."
                ),
                stacklevel=5,
            )
    # In UTF-16 and UTF-32 what parts the fields is several bytes.
    if compression is None and not re.search("16|32", encoding or ""):
        check_last_line(path, separator, len(header))
    options |= {"sep": separator, "skipinitialspace": True, "index_col": False}
    marks: dict[str, Any] = {}
    if wanted.decimal == ",":
        marks = {"decimal": ",", "thousands": "."}
    with ThreadPoolExecutor(1) as pool, warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        lines = None
        if keep_text and compression is None and encoding == "utf-8-sig":
            lines = pool.submit(read_lines, path, separator, header)
        table = pd.read_csv(
            path,
            na_values=list(wanted.missing)
            if wanted.usual_missing
            else ["", *wanted.missing],
            keep_default_na=wanted.usual_missing,
            low_memory=False,
            **marks,
            **options,
        )
        text = None if lines is None else lines.result()
        if keep_text and (text is None or len(text) != len(table)):
            text = pd.read_csv(path, dtype=str, na_filter=False, **options)
    decimal = wanted.decimal
    if decimal is None and separator == ";":
        decimal = ","
    commas = False
    for name in table.columns:
        if table[name].dtype == object or pd.api.types.is_string_dtype(table[name]):
            table[name] = _tidy(table[name], decimal)
            commas |= pd.api.types.is_float_dtype(table[name])
    if wanted.decimal is None and separator == ";":

        def column(place: int) -> pd.Series:
            if text is not None:
                return text_of(text, place)
            one = {**options, "usecols": [place], "dtype": str, "na_filter": False}
            return pd.read_csv(path, **one).iloc[:, 0]

        read_thousands(table, column, commas=commas)
    if text is not None:
        _keep_codes(table, text)
    return table, text, header


def _keep_codes(table: pd.DataFrame, text: pd.DataFrame | Lines) -> None:
    """Keep whole numbers with leading zeros as text: they are codes, not amounts."""
    found = []
    for place, name in enumerate(table.columns):
        column: Any = table[name]
        if not pd.api.types.is_numeric_dtype(column.dtype) or column.dtype == bool:
            continue
        values = column.to_numpy(np.float64, na_value=np.nan)
        present = ~np.isnan(values)
        # Most columns are told by their numbers, or by first letters: words are slow.
        if not (values[present] == np.floor(values[present])).all():
            continue
        fields: Any = text_of(text, place)
        first = fields[fields.str.startswith("0").to_numpy(bool) & present]
        if _has_codes(first.iloc[:1000]) or _has_codes(first.drop_duplicates()):
            texts = fields.str.strip().astype(object)
            table[name] = texts if present.all() else texts.where(present, None)
            found.append(repr(name))
    if found:
        warnings.warn(
            f"Whole numbers with leading zeros are codes, taken as categories and not as "
            f"amounts: {', '.join(found)}.",
            stacklevel=6,
        )


def _has_codes(texts: Any) -> bool:
    return bool(texts.str.fullmatch(r"0\d+\s*").any())


def _tidy(column: Any, decimal: str | None) -> Any:
    """Strip blanks; where semicolons part the fields, read decimal commas."""
    present = column.dropna()
    if not len(present) or pd.api.types.infer_dtype(present) != "string":
        return column
    if decimal is not None:
        found = find_numerals(present, decimal=decimal)
        if found is not None and not found.odd:
            return pd.Series(read_numerals(column, decimal), index=column.index)
    blank = present.str.strip() != present
    return column.str.strip() if blank.any() else column


def _warn_of_missing_texts(
    table: pd.DataFrame, text: pd.DataFrame | Lines, named: Sequence[str]
) -> None:
    """Say which texts became missing values that nobody named as such."""
    said = []
    for place, name in enumerate(table.columns):
        gone = np.flatnonzero(table.iloc[:, place].isna())
        if not len(gone):
            continue
        codes, values = pd.factorize(text_of(text, place).iloc[gone].str.strip())
        rows = np.bincount(codes)
        listed = [
            f"{str(values[i])!r} ({rows[i]})"
            for i in np.argsort(-rows, kind="stable").tolist()
            if values[i] not in ("", *named)
        ]
        if listed:
            said.append(f"{name!r}: {', '.join(listed[:5])}")
    if said:
        warnings.warn(
            f"Read as missing values, with their rows: {'; '.join(said[:10])}"
            f"{'; ...' if len(said) > 10 else ''}. Name the texts that mean a missing "
            "value (--missing, or missing= and usual_missing=False) to keep the others.",
            stacklevel=5,
        )


def _header(path: pathlib.Path, separator: str, options: dict[str, Any]) -> list[str]:
    first = pd.read_csv(
        path, sep=separator, header=None, nrows=1, dtype=str, na_filter=False, **options
    )
    return [str(name).strip() for name in first.iloc[0]]
