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

#: Modules of 0.1 that are part of another one now; skops names classes by modules.
MOVED_MODULES = {
    "jaxsteer.channels._entropic_meet": "jaxsteer.channels._entropic_kernel",
    "jaxsteer.families._monte_carlo": "jaxsteer.families._numerical",
    "jaxsteer.pareto._custom_metric": "jaxsteer.pareto._metric",
    "jaxsteer.pareto._custom_model": "jaxsteer.pareto._model",
    "jaxsteer.pareto._loss_metrics": "jaxsteer.pareto._dependence_metrics",
    "jaxsteer.solvers._status": "jaxsteer.solvers._solution",
}

#: Fields that have another name now, by the present name of their class.
RENAMED_FIELDS: dict[str, dict[str, str]] = {}


def current_class(name: str) -> str:
    """Return the present name of a class."""
    return RENAMED_CLASSES.get(name, name)


def current_field(cls: str, name: str) -> str:
    """Return the present name of a field of a class under its present name."""
    return RENAMED_FIELDS.get(cls, {}).get(name, name)
