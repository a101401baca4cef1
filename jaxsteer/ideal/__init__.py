"""The programs: from a population to the nearest ideal one."""

from jaxsteer.ideal._batch import nearest_ideal_batch
from jaxsteer.ideal._class_channel import ClassChannel, class_channel
from jaxsteer.ideal._entropic_kernel import entropic_kernel
from jaxsteer.ideal._entropic_meet import EntropicMeet, entropic_meet
from jaxsteer.ideal._fair_channel import fair_channel
from jaxsteer.ideal._gap import ideality_gap
from jaxsteer.ideal._meet_channel import MeetChannel, meet_channel
from jaxsteer.ideal._nearest import nearest_ideal
from jaxsteer.ideal._steering import Steering

__all__ = [
    "ClassChannel",
    "EntropicMeet",
    "MeetChannel",
    "Steering",
    "class_channel",
    "entropic_kernel",
    "entropic_meet",
    "fair_channel",
    "ideality_gap",
    "meet_channel",
    "nearest_ideal",
    "nearest_ideal_batch",
]
