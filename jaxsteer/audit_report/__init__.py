"""An audit that another party can run again: figures from counts, and their document.

Rows become counts (:func:`count_rows`), every figure is a function of the counts and of
a seed (:func:`audit_counts`), and the document says in words, in HTML and in JSON what
they show. ``recompute.py``, which stands beside each document, recomputes all of it
with Python's standard library alone.
"""

from jaxsteer.audit_report._cells import Cells, count_rows, cut_numbers
from jaxsteer.audit_report._document import (
    audit_counts,
    audit_document,
    counts_csv,
    recompute_source,
    render_audit,
)
from jaxsteer.audit_report._words import PROFILES, in_words

__all__ = [
    "audit_document",
    "count_rows",
    "render_audit",
]
