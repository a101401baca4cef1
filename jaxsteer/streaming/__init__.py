"""Rows that do not fit on one device, in memory, in one process, or in one run."""

from jaxsteer.streaming._encoder import ColumnCode, RowEncoder, row_encoder
from jaxsteer.streaming._files import Batch, Piece, RowFiles, open_files
from jaxsteer.streaming._online import (
    GapWatch,
    forget,
    swap_maps,
    watch_gap,
    window_population,
)
from jaxsteer.streaming._pass import (
    MomentPass,
    PassState,
    Tower,
    load_checkpoint,
    merge_pieces,
    run_pass,
    run_with,
    save_checkpoint,
)
from jaxsteer.streaming._progress import Progress, print_progress
from jaxsteer.streaming._statistics import (
    ColumnStatistics,
    TableStatistics,
    table_statistics,
)
from jaxsteer.streaming._steer import SteeredFile, apply_file, steer_file
from jaxsteer.streaming._sup_gap import sharded_sup_gap

__all__ = [
    "apply_file",
    "open_files",
    "row_encoder",
    "run_pass",
    "sharded_sup_gap",
    "steer_file",
    "swap_maps",
    "watch_gap",
]
