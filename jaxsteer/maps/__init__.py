"""Maps that act on data: affine, diagonal, conjugated by a bijection."""

from jaxsteer.maps._affine import AffineMap, DiagonalMap
from jaxsteer.maps._bijections import Bijection, ConjugatedMap, Exp
from jaxsteer.maps._gaussian import gaussian_transport

__all__ = [
    "AffineMap",
    "Bijection",
    "ConjugatedMap",
    "DiagonalMap",
    "Exp",
    "gaussian_transport",
]
