"""The programs: from a population to the nearest ideal one."""

from jaxsteer.ideal._batch import nearest_ideal_batch
from jaxsteer.ideal._nearest import ideality_gap, nearest_ideal

__all__ = ["ideality_gap", "nearest_ideal", "nearest_ideal_batch"]
