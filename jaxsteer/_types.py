"""Array aliases, and the one table of the letters used in shapes.

========  =====================================================
letter    meaning
========  =====================================================
``K``     classes (index ``i``, ``j``)
``G``     groups (index ``a``)
``d``     features
``n``     samples
``...``   leading batch axes, added by ``vmap`` or broadcasting
========  =====================================================

Divergences are in nats, everywhere.
"""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

# What the front doors take; inside everything is a jax.Array.
ArrayLike = jax.Array | np.ndarray

__all__ = ["Array", "ArrayLike", "Bool", "Float", "Int", "Key", "PRNGKeyArray"]
