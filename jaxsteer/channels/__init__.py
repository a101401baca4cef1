"""Channels: scores and features made fair at deployment, without labels."""

from jaxsteer.channels._class_channel import ClassChannel, class_channel
from jaxsteer.channels._entropic_kernel import entropic_kernel
from jaxsteer.channels._entropic_meet import EntropicMeet, entropic_meet
from jaxsteer.channels._fair_channel import fair_channel
from jaxsteer.channels._meet_channel import MeetChannel, meet_channel

__all__ = [
    "ClassChannel",
    "EntropicMeet",
    "MeetChannel",
    "class_channel",
    "entropic_kernel",
    "entropic_meet",
    "fair_channel",
    "meet_channel",
]
