"""Channels: scores and features made fair at deployment, without labels."""

from jaxsteer._row_draws import row_uniform
from jaxsteer.channels._blind_channel import BlindChannel, blind_channel
from jaxsteer.channels._entropic_kernel import (
    EntropicMeet,
    entropic_kernel,
    entropic_meet,
)
from jaxsteer.channels._gaussian_channel import gaussian_channel
from jaxsteer.channels._multiclass_channel import MulticlassChannel, multiclass_channel
from jaxsteer.channels._quantiles import (
    ScoreMap,
    balanced_quantiles,
    smooth_balanced_quantiles,
)
from jaxsteer.channels._roc_channel import RocChannel, roc_channel
from jaxsteer.channels._rows import Channel

__all__ = [
    "BlindChannel",
    "Channel",
    "MulticlassChannel",
    "RocChannel",
    "ScoreMap",
    "balanced_quantiles",
    "blind_channel",
    "gaussian_channel",
    "multiclass_channel",
    "roc_channel",
    "smooth_balanced_quantiles",
]
