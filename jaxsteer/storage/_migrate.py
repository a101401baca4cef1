"""Names of earlier versions: what their files call the classes of today."""

from __future__ import annotations

#: Class names in files of jaxsteer 0.1, and what they are called now. A field that was
#: added since and has a default needs no entry.
RENAMED_CLASSES = {
    "ideal.ClassChannel": "channels.MulticlassChannel",
    "ideal.EntropicMeet": "channels.EntropicMeet",
    "ideal.MeetChannel": "channels.RocChannel",
    "ideal.Steering": "steering.Steering",
}

#: Fields that have another name now, by the present name of their class.
RENAMED_FIELDS: dict[str, dict[str, str]] = {}


def current_class(name: str) -> str:
    """Return the present name of a class."""
    return RENAMED_CLASSES.get(name, name)


def current_field(cls: str, name: str) -> str:
    """Return the present name of a field of a class under its present name."""
    return RENAMED_FIELDS.get(cls, {}).get(name, name)
