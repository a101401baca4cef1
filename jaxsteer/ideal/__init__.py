"""The programs: from a population to the nearest ideal one."""

from jaxsteer.ideal._nearest import nearest_ideal
from jaxsteer.ideal._steering import Steering

__all__ = [
    "Steering",
    "nearest_ideal",
]
