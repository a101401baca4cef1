"""Rows that do not fit on one device, in memory, in one process, or in one run."""

from jaxsteer.streaming._sup_gap import sharded_sup_gap

__all__ = ["sharded_sup_gap"]
