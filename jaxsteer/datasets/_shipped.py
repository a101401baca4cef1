"""The two tables inside the package: census income and German credit."""

from __future__ import annotations

import io
import lzma
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from jaxsteer.datasets._table import Table, stratified_split


def load_adult() -> Table:
    """Load census income (Adult): does a person earn more than 50,000 dollars a year?

    48,842 rows of the 1994 census of the United States. Label 1 is ``">50K"``; group 0
    is ``"Female"``, group 1 is ``"Male"`` (the usual reference). The published split is
    kept (32,561 rows to train on), the census sampling weight (``fnlwgt``) is in
    `weights` and not among the features, and ``"?"`` became missing. The column
    ``relationship`` (husband, wife) still tells the sex of many rows.

    Returns:
        The :class:`Table`.

    Example:
        >>> table = load_adult()
        >>> len(table), int(table.train.sum()), table.features.shape[1]
        (48842, 32561, 12)

    References:
        Becker, Kohavi (1996). Adult. UCI Machine Learning Repository,
        https://doi.org/10.24432/C5XW20, CC BY 4.0.
    """
    frame = _read("adult.csv.xz", missing="?")
    dropped = ["income", "sex", "fnlwgt", "part"]
    return Table(
        features=frame.drop(columns=dropped),
        label=_codes(frame["income"], ("<=50K", ">50K")),
        group=_codes(frame["sex"], ("Female", "Male")),
        label_names=("<=50K", ">50K"),
        group_names=("Female", "Male"),
        train=(frame["part"] == "train").to_numpy(bool),
        weights=frame["fnlwgt"].to_numpy(float),
        name="adult",
        label_column="income",
        group_columns=("sex",),
        attribution=(
            "Adult, B. Becker and R. Kohavi (1996), UCI Machine Learning Repository, "
            "https://doi.org/10.24432/C5XW20, CC BY 4.0."
        ),
    )


def load_german() -> Table:
    """Load German credit: is a person a good credit risk?

    1,000 rows of a German bank. Label 1, the favorable one, is ``"good"``. The sex is
    read from ``status_sex`` (codes A91, A93 and A94 are male, A92 and A95 female),
    which is not among the features: it tells only the sex and the marital status;
    group 0 is ``"Female"``, group 1 is ``"Male"``. The age stays a feature. There is no
    published split: a fixed one, ``stratified_split(label, group)`` with its defaults,
    trains on 70% of the rows of every class in every group.

    Returns:
        The :class:`Table`.

    Example:
        >>> table = load_german()
        >>> table.counts().tolist()
        [[109, 191], [201, 499]]

    References:
        Hofmann (1994). Statlog (German Credit Data). UCI Machine Learning Repository,
        https://doi.org/10.24432/C5NC77, CC BY 4.0.
    """
    frame = _read("german.csv.xz")
    male = frame["status_sex"].isin(["A91", "A93", "A94"]).to_numpy()
    label = _codes(frame["credit"], (2, 1))
    group = male.astype(np.int32)
    return Table(
        features=frame.drop(columns=["credit", "status_sex"]),
        label=label,
        group=group,
        label_names=("bad", "good"),
        group_names=("Female", "Male"),
        train=stratified_split(label, group),
        name="german",
        label_column="credit",
        group_columns=("status_sex",),
        attribution=(
            "Statlog (German Credit Data), H. Hofmann (1994), UCI Machine Learning "
            "Repository, https://doi.org/10.24432/C5NC77, CC BY 4.0."
        ),
    )


def _read(name: str, missing: str | None = None) -> pd.DataFrame:
    packed = resources.files("jaxsteer.datasets").joinpath("data", name).read_bytes()
    return pd.read_csv(io.BytesIO(lzma.decompress(packed)), na_values=missing)


def _codes(column: Any, names: tuple[str | int, ...]) -> np.ndarray:
    index = {name: code for code, name in enumerate(names)}
    return column.map(index).to_numpy(np.int32)
