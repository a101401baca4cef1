"""The same map in another engine: arrays, PyTorch, payloads of servers, one artifact.

No engine becomes a dependency: PyTorch and gguf are imported when they are asked for.

===================== ==========================================================
function              gives
===================== ==========================================================
``to_numpy``          ``weight`` and ``bias`` at a strength
``to_torch``          a ``torch.nn.Module``; ``attach`` hooks it into a model
``hook_source``       a Python file that steers a Hugging Face model on its own
``to_easysteer``      EasySteer's LinearMap payloads, one a layer
``to_control_vector`` a GGUF control vector, and what it leaves out
``save_steering``     one artifact that says what it is and where it belongs
===================== ==========================================================
"""

from jaxsteer.export._artifact import SteeringArtifact, load_steering, save_steering
from jaxsteer.export._control_vector import AdditivePart, to_control_vector
from jaxsteer.export._easysteer import to_easysteer
from jaxsteer.export._hidden_states import (
    RequestStates,
    hidden_state_moments,
    read_hidden_states,
)
from jaxsteer.export._numpy import AffineArrays, to_numpy
from jaxsteer.export._torch import attach, hook_source, to_torch

__all__ = [
    "attach",
    "hidden_state_moments",
    "load_steering",
    "read_hidden_states",
    "save_steering",
    "to_control_vector",
    "to_easysteer",
    "to_numpy",
    "to_torch",
]
