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

from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

__all__ = ["Array", "Bool", "Float", "Int", "Key", "PRNGKeyArray"]
