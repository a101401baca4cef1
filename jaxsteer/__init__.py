"""jaxsteer: the nearest exactly-fair population, and the maps that steer there.

See the README for what "fair" means here, and what is not promised. Importing this
package computes and loads nothing: its names come with the first of them that is used,
and the parts that need Flax, scikit-learn, pandas or matplotlib (``compare``,
``datasets``, ``estimators``, ``latent``, ``models``, ``nn``, ``pareto``, ``plots``,
``report``, ``storage``) each with its own first use.
"""

from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from os import stat as _stat
from os.path import dirname as _dirname
from time import time_ns as _time_ns
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from jaxsteer._api import *  # noqa: F403

__version__ = "0.1.0"
# Sources that are newer, or in another folder, are not what is in memory; reloading this
# file loads no other.
_IMPORTED: int = globals().get("_IMPORTED", _time_ns())
_FOLDER: tuple[int, int] = globals().get("_FOLDER", _stat(_dirname(__file__))[1:3])

# Packages that are no part of ``from jaxsteer import *``: their dependencies are extras,
# or take long to import.
_LAZY = (
    "compare",
    "datasets",
    "estimators",
    "latent",
    "models",
    "nn",
    "pareto",
    "plots",
    "report",
    "storage",
)


def __getattr__(name: str) -> _Any:
    # Private names are asked for by tools that look for something else.
    if name != "__all__" and name.startswith("_"):
        raise AttributeError(f"module 'jaxsteer' has no attribute {name!r}")
    if name != "__all__" and _find_spec(f"jaxsteer.{name}") is not None:
        return _import_module(f"jaxsteer.{name}")
    api = _import_module("jaxsteer._api")
    if name == "__all__" or name in api.__all__:
        found = {public: getattr(api, public) for public in api.__all__}
        globals().update(found, __all__=api.__all__)
        return globals()[name]
    raise AttributeError(f"module 'jaxsteer' has no attribute {name!r}")


def __dir__() -> list[str]:
    names: list[str] = list(_import_module("jaxsteer._api").__all__)
    return [*names, *_LAZY]
