"""Concept subspaces of two groups, and what the affirmative program makes of them.

At a place of the model the states of group `a` have a mean in either manner, joyful or
angry, and a concept subspace whose mean vector, at the size of the states, is `c_a`.
Steering with strength `s` is the authors' ``h -> (1 - s) h + s c_a``.

The population of the program: manner as class, genre as group, states in the few
directions that tell manners or genres apart. The group that comes out more joyful is the
reference; the map `M` of the program carries the other group's states to the reference's
coordinates. Two ways to use it:

- "carried vector": steer in the reference's coordinates and come back, ``M^-1((1 - s) M h
  + s c)``, which is ``(1 - s) h + s M^-1(c)``: the vector is carried, and a strength of 0
  changes nothing.
- "carried states": stay there, ``(1 - s) M h + s c``: at a strength of 0 the states are
  moved already.

"Own vector, as long" is the first one's control: the moved group's own vector, at the
length of the carried one.

A third, "carried strength", asks the program about outcomes: `_joyfulness_strength`.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxsteer as js
from jaxsteer.baselines import ConceptSubspace, concept_subspace
from jaxsteer.maps import LowRankMap
from jaxsteer.moments import Projection
from jaxsteer.nn import GroupSteer

DIRECTIONS = 6


class Recorded(NamedTuple):
    """States of the fitting prompts: ``[n, d]`` by place, manner (joyful 1), group."""

    states: dict[str, Any]
    label: np.ndarray
    group: np.ndarray


@dataclasses.dataclass(frozen=True)
class Plan:
    """What each arm does at one place.

    Attributes:
        matrix, read, shift: ``[A, d, r]``, ``[A, d, r]``, ``[A, d]``: states are moved
            to ``h + matrix (read' h) + shift`` first, whatever the strength.
        target: ``[A, d]`` the vector that is then mixed in.
    """

    matrix: np.ndarray
    read: np.ndarray
    shift: np.ndarray
    target: np.ndarray

    @classmethod
    def still(cls, targets: np.ndarray) -> Plan:
        """Move no states."""
        none = np.zeros((*targets.shape, DIRECTIONS), np.float32)
        return cls(none, none, np.zeros_like(targets), targets)

    @classmethod
    def moving(cls, map: LowRankMap, target: np.ndarray) -> Plan:
        """Move states by one map, in both of two arms."""
        parts = (map.u, map.v, map.b, target)
        return cls(*(np.stack([np.asarray(part)] * 2) for part in parts))

    def layers(self, strength: float) -> tuple[GroupSteer, GroupSteer]:
        """Return the two layers, one map an arm."""
        first = LowRankMap(*map(jnp.asarray, (self.matrix, self.read, self.shift)))
        target = jnp.asarray(self.target)
        second = js.maps.DiagonalMap(jnp.zeros_like(target), target)
        return GroupSteer(first), GroupSteer(second, strength=strength)


def subspaces(rows: Recorded, place: str, n_probes: int, seed: int) -> list[Any]:
    """Fit the concept subspace of each group at a place."""
    return [
        concept_subspace(
            np.asarray(rows.states[place])[rows.group == a],
            rows.label[rows.group == a],
            key=jax.random.key(seed + a),
            n_probes=n_probes,
            n_rows=int(np.sum((rows.group == a) & (rows.label == 1))) // 2,
        )
        for a in (0, 1)
    ]


def target(subspace: ConceptSubspace) -> np.ndarray:
    """Return the mean concept vector at the size of the states, ``c`` of a group."""
    return np.asarray(subspace.map(1.0).shift)


def affirmative(
    states: np.ndarray, rows: Recorded, targets: list[np.ndarray], reference: int
) -> tuple[LowRankMap, dict[str, float]]:
    """Return the moved group's map to the reference, and what the program says."""
    label, group, moved = rows.label, rows.group, 1 - reference
    mean = np.array(
        [[states[(label == i) & (group == a)].mean(0) for a in (0, 1)] for i in (0, 1)]
    )
    directions = [
        *targets,
        *(mean[1] - mean[0]),  # the manner, by genre
        *(mean[:, 1] - mean[:, 0]),  # the genre, by manner
    ]
    unit = np.stack([v / np.linalg.norm(v) for v in directions], 1)
    basis = np.linalg.qr(unit)[0].astype(np.float32)
    z = states @ basis
    size = z.std(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        population = js.fit_population(z / size, label, group, covariance="tied")
    steering = js.nearest_ideal(
        population, reference=reference, maps="shared_covariance", differentiate="none"
    ).require()
    maps = steering.group_maps
    weight = np.asarray(maps.weight[moved]) * size[:, None] / size
    bias = np.asarray(maps.bias[moved]) * size
    inside = Projection(
        basis=jnp.asarray(basis), center=jnp.zeros(len(basis)), share=jnp.ones(())
    )
    lifted = inside.lift(js.AffineMap(jnp.asarray(weight), jnp.asarray(bias)))
    after = np.asarray(lifted(states[group == moved]))
    figures = {
        "kl": float(steering.kl),
        "separation": separations(population),
        "mean_gap_before": genre_gap(z, label, group),
        "mean_gap_after": genre_gap(
            np.concatenate([z[group == reference], after @ basis]),
            np.concatenate([label[group == reference], label[group == moved]]),
            np.concatenate([group[group == reference], group[group == moved]]),
        ),
    }
    return lifted, figures


def separations(population: Any) -> list[float]:
    """Mahalanobis distance of the manners in each group."""
    cells = population.conditionals
    found = []
    for a in (0, 1):
        gap = np.asarray(cells.mean[1, a] - cells.mean[0, a])
        cov = np.asarray(cells.cov[0, a] + cells.cov[1, a]) / 2
        found.append(float(np.sqrt(gap @ np.linalg.solve(cov, gap))))
    return found


def genre_gap(z: np.ndarray, label: np.ndarray, group: np.ndarray) -> float:
    """Distance of the genres' means within a manner, in deviations, averaged."""
    gaps = []
    for i in (0, 1):
        low, high = (z[(label == i) & (group == a)] for a in (0, 1))
        spread = np.sqrt((low.var(0) + high.var(0)) / 2)
        gaps.append(np.mean(np.abs(low.mean(0) - high.mean(0)) / spread))
    return float(np.mean(gaps))
