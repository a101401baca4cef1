"""Tables with a label and a group: shipped, of known studies, and any other."""

from jaxsteer.datasets._frame import table_from_frame
from jaxsteer.datasets._lines import TextTable
from jaxsteer.datasets._read import read_table, read_text_table
from jaxsteer.datasets._shipped import load_adult, load_german
from jaxsteer.datasets._studies import load_study
from jaxsteer.datasets._table import Table, stratified_split

__all__ = [
    "load_adult",
    "load_german",
    "load_study",
    "read_table",
    "read_text_table",
    "table_from_frame",
]
