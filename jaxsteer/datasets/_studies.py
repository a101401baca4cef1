"""Tables that fairness papers study, from files that a user has: none is shipped."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxsteer._errors import check_choice
from jaxsteer._frames import missing_column_message
from jaxsteer._types import PathLike
from jaxsteer.datasets._read import read_table
from jaxsteer.datasets._table import Table, stratified_split


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Study:
    """What is made of one file.

    Attributes:
        features: Columns that are features.
        label: Column of the label.
        label_values: The values that are labels 0 and 1, as text.
        label_names: What these are called; label 1 is the favorable one.
        group: Column of the group.
        group_of: Turns it into names; None for a row that is left out.
        group_names: Those names, in the order of their codes.
        keep: Tells which rows count.
        needs: Columns that `keep` reads.
        attribution: Source.
    """

    features: Sequence[str]
    label: str
    label_values: tuple[str, str]
    label_names: tuple[str, str]
    group: str
    group_of: Callable[[Any], Any]
    group_names: tuple[str, str]
    keep: Callable[[Any], Any] | None = None
    needs: Sequence[str] = ()
    attribution: str


def _judged_in_time(frame: Any) -> Any:
    days = frame["days_b_screening_arrest"]
    known = (frame["is_recid"] != -1) & frame["score_text"].notna()
    return days.between(-30, 30) & known & (frame["c_charge_degree"] != "O")


def _by_age(column: Any) -> Any:
    age: Any = pd.to_numeric(column, errors="coerce")
    named = age.between(25, 60).map({True: "25 to 60", False: "under 25 or over 60"})
    return named.where(age.notna())


_STUDIES = {
    "compas": _Study(
        features=(
            "age",
            "sex",
            "juv_fel_count",
            "juv_misd_count",
            "juv_other_count",
            "priors_count",
            "c_charge_degree",
        ),
        label="two_year_recid",
        label_values=("1", "0"),
        label_names=("arrested again", "not arrested again"),
        group="race",
        group_of=lambda race: race,
        group_names=("African-American", "Caucasian"),
        keep=_judged_in_time,
        needs=("days_b_screening_arrest", "is_recid", "score_text"),
        attribution="COMPAS, Angwin, Larson, Mattu and Kirchner (ProPublica, 2016).",
    ),
    "law_school": _Study(
        features=("LSAT", "UGPA", "sex"),
        label="first_pf",
        label_values=("0", "1"),
        label_names=("failed", "passed"),
        group="race",
        group_of=lambda race: race.where(race.isna() | (race == "White"), "other"),
        group_names=("other", "White"),
        attribution="Law school admission, Wightman (LSAC, 1998).",
    ),
    "bank": _Study(
        features=(
            "job",
            "marital",
            "education",
            "default",
            "balance",
            "housing",
            "loan",
            "contact",
            "day",
            "month",
            "campaign",
            "pdays",
            "previous",
            "poutcome",
        ),
        label="y",
        label_values=("no", "yes"),
        label_names=("no", "yes"),
        group="age",
        group_of=_by_age,
        group_names=("under 25 or over 60", "25 to 60"),
        attribution=(
            "Bank Marketing, Moro, Cortez and Rita (2014), UCI Machine Learning "
            "Repository, https://doi.org/10.24432/C5K306."
        ),
    ),
}


def load_study(name: str, path: PathLike) -> Table:
    """Read a table that fairness papers study, from the file that they use.

    - ``"compas"``: ``compas-scores-two-years.csv`` of ProPublica's analysis, with its
      filters (screened within 30 days of the arrest, no ordinary traffic offences).
      Label 1 is no new arrest within two years; groups African-American, Caucasian.
    - ``"law_school"``: ``law_data.csv`` of the counterfactual-fairness paper (Kusner et
      al. 2017). Label 1 is a bar examination passed at first; groups other, White. The
      first year's average, which the label follows, is no feature.
    - ``"bank"``: ``bank-full.csv`` of the UCI repository. Label 1 is a deposit made;
      groups by age, 25 to 60 or not. The length of the call, which is not known before
      it, is no feature, and neither is the age.

    Args:
        name: Which.
        path: The file.

    Returns:
        The :class:`Table`; rows without a label or of another group are left out. The
        split is ``stratified_split(label, group)``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If `name` is not known, or the file lacks a column or has no rows
            that count: it is another version of the table.

    Example:
        >>> # table = load_study("compas", "compas-scores-two-years.csv")

    References:
        Le Quy et al. 2022, "A survey on datasets for fairness-aware machine learning".
    """
    check_choice("name", name, tuple(_STUDIES))
    study = _STUDIES[name]
    with warnings.catch_warnings():
        # Bank marketing is parted by semicolons, and meant to be.
        warnings.filterwarnings("ignore", ".* are parted by ", UserWarning)
        frame: Any = read_table(path, decimal=".")
    for column in (*study.features, study.label, study.group, *study.needs):
        if column not in frame:
            raise ValueError(missing_column_message(column, frame.columns, str(path)))
    kept = frame if study.keep is None else frame[study.keep(frame)]
    label = _coded(_as_text(kept[study.label]), study.label_values)
    group = _coded(study.group_of(kept[study.group]), study.group_names)
    known = (label >= 0) & (group >= 0)
    label, group = label[known], group[known]
    if len(np.unique(2 * label + group)) < 4:
        raise ValueError(
            f"{path}: not every label occurs in both groups "
            f"({study.label_names[0]!r}, {study.label_names[1]!r} by "
            f"{study.group_names[0]!r}, {study.group_names[1]!r}); is it another version "
            f"of the table?"
        )
    return Table(
        features=kept.loc[known, list(study.features)].reset_index(drop=True),
        label=label,
        group=group,
        label_names=study.label_names,
        group_names=study.group_names,
        train=stratified_split(label, group),
        name=name,
        label_column=study.label,
        group_columns=(study.group,),
        attribution=study.attribution,
    )


def _as_text(column: Any) -> Any:
    """Labels as text: 1 and 1.0 alike; missing ones stay missing."""
    numbers: Any = pd.to_numeric(column, errors="coerce")
    if numbers.notna().equals(column.notna()):
        return numbers.map("{:g}".format, na_action="ignore")
    return column.map(str, na_action="ignore")


def _coded(values: Any, names: Sequence[str]) -> np.ndarray:
    """Codes of the names, -1 for any other value."""
    codes = {name: code for code, name in enumerate(names)}
    return values.map(codes).fillna(-1).to_numpy().astype(np.int32)
