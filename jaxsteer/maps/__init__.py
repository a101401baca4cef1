"""Maps that act on data: affine, low-rank, diagonal, conjugated, side by side."""

from jaxsteer.maps._affine import AffineMap, DiagonalMap
from jaxsteer.maps._bijections import (
    Bijection,
    Chain,
    ConjugatedMap,
    Exp,
    Sigmoid,
)
from jaxsteer.maps._gaussian import gaussian_transport
from jaxsteer.maps._identity import IdentityMap
from jaxsteer.maps._low_rank import LowRankMap
from jaxsteer.maps._map import Map
from jaxsteer.maps._power_bijections import BoxCox, YeoJohnson
from jaxsteer.maps._product import ProductMap, join_columns, split_columns
from jaxsteer.maps._shape_bijections import RationalQuadraticSpline, SinhArcsinh
from jaxsteer.storage import content_hash

__all__ = [
    "AffineMap",
    "Bijection",
    "BoxCox",
    "Chain",
    "ConjugatedMap",
    "DiagonalMap",
    "Exp",
    "LowRankMap",
    "Map",
    "ProductMap",
    "RationalQuadraticSpline",
    "Sigmoid",
    "SinhArcsinh",
    "YeoJohnson",
    "gaussian_transport",
]
