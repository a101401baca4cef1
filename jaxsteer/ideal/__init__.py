"""The programs: from a population to the nearest ideal one."""

from jaxsteer.ideal._fair_channel import fair_channel
from jaxsteer.ideal._meet_channel import MeetChannel, meet_channel
from jaxsteer.ideal._nearest import nearest_ideal
from jaxsteer.ideal._steering import Steering

__all__ = [
    "MeetChannel",
    "Steering",
    "fair_channel",
    "meet_channel",
    "nearest_ideal",
]
