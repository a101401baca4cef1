"""The rows of the comparison table: known methods and ours, measured the same way."""

from jaxsteer.compare._compare import DEFAULT_METHODS, METHODS, compare, measure
from jaxsteer.compare._comparison import (
    CHANCE_FOOTNOTE,
    COLUMNS,
    Comparison,
    Row,
    format_interval,
    interval_record,
)
from jaxsteer.compare._learners import (
    LEARNERS,
    Learner,
    get_learner,
    out_of_fold_scores,
    positive_scores,
)
from jaxsteer.compare._outcome import Outcome, apply_group_maps
from jaxsteer.compare._split import Split, cell_counts, split_table
from jaxsteer.compare._synthetic import (
    INTERVENTIONS,
    intervene,
    study,
    study_table,
    synthetic_populations,
)

__all__ = [
    "Comparison",
    "Learner",
    "compare",
    "intervene",
    "measure",
    "split_table",
    "study_table",
    "synthetic_populations",
]
