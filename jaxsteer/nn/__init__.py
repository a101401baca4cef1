"""Flax layers that steer representations, and how to put them into a model.

NNX layers are here, their Linen twins in :mod:`jaxsteer.nn.linen`. All of them take the
maps that a fit or a solve returned, and add what the map changes: ``x + strength *
(map(x) - x)``.

===================== ==========================================================
layer                 map
===================== ==========================================================
``AffineSteer``       one for every row (LEACE, a tied steering)
``GroupSteer``        one for each group, the group of each example given
``SoftGroupSteer``    the groups' average, weighted by a probe's posterior
===================== ==========================================================

``insert_steering`` and ``steer_model`` put them into a model by path; ``set_groups``,
``set_positions`` and ``set_strength`` say to whom, where and how much, call by call;
``capture_activations`` and ``capture_moments`` read what passes at any place;
``choose_layer`` and ``choose_strength`` compare places and strengths on rows kept apart.
"""

from jaxsteer.nn import linen
from jaxsteer.nn._capture import Activations, capture_activations
from jaxsteer.nn._capture_moments import capture_moments
from jaxsteer.nn._choose_layer import LayerChoice, choose_layer
from jaxsteer.nn._choose_strength import StrengthChoice, choose_strength
from jaxsteer.nn._group_steer import GroupSteer, set_groups
from jaxsteer.nn._insert import (
    Insertion,
    Insertions,
    insert_steering,
    remove_steering,
    steer_model,
)
from jaxsteer.nn._layer import AffineSteer
from jaxsteer.nn._soft_group_steer import SoftGroupSteer
from jaxsteer.nn._steered import StackMask, Steered, set_positions, set_strength
from jaxsteer.nn._token_positions import TokenPositions
from jaxsteer.nn._variables import GroupIds, SteeringConstant, SteeringParam

__all__ = [
    "AffineSteer",
    "GroupSteer",
    "SoftGroupSteer",
    "SteeringParam",
    "capture_activations",
    "capture_moments",
    "choose_layer",
    "choose_strength",
    "insert_steering",
    "linen",
    "remove_steering",
    "set_groups",
    "set_positions",
    "set_strength",
    "steer_model",
]
