"""The programs: from a population to the nearest ideal one."""

from jaxsteer.ideal._nearest import ideality_gap, nearest_ideal, nearest_ideal_batch

__all__ = ["ideality_gap", "nearest_ideal", "nearest_ideal_batch"]
