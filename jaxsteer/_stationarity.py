"""Whether a population is a nearest one of its kind: slopes of the divergence.

A map ``T`` of one group may change to ``(I + E) T``, whose effect on the divergence is
``<slope, E>``; for every kind of maps some slopes must vanish. They are measured where
the group's mean covariance is 1 and in shares of the group's weight, so that they have no
units, and a slope of ``s`` leaves about ``s^2 / 2`` nats to gain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxsteer import _host_laws as host

STEP = 1e-4
# A map counts as definite, and a cell as one that stayed, up to this.
ALIKE = 1e-3
# Features up to which a Newton step is taken: d^2 / 2 unknowns.
NEWTON = 12
RELATIVE = "relative to class "
TEMPLATE = "the template, given the maps"


def stationarity(
    exact: Any, draws: list[Any], reference: int, limit: float
) -> tuple[str, float | None, float]:
    """The kind of maps of which the answer is nearest, the slope left, and its rounding.

    Args:
        exact: The numbers of a steering: laws `source`, `target`, `maps` and `new`
            priors.
        draws: The same numbers moved by their rounding.
        reference: The group whose coordinates the template uses.
        limit: The slope that counts as none.

    Returns:
        Kind, slope and rounding; or a reason, None and 0.
    """
    worst, rounding, kinds = 0.0, 0.0, []
    for at, law in enumerate(exact.target):
        by_kind = _block(exact, at, reference)
        if not by_kind:
            return f"{law.kind} within rounding of singular", None, 0.0
        kinds_of_maps = [k for k in by_kind if k != TEMPLATE]
        kind = min(kinds_of_maps, key=lambda k: by_kind[k])
        if by_kind[kind] > limit and by_kind.get(TEMPLATE, np.inf) <= limit:
            kind = TEMPLATE  # maps of a model that is not the population's
        others = [_block(one, at, reference).get(kind, np.inf) for one in draws]
        away = 4 * max(abs(other - by_kind[kind]) for other in others)
        worst, rounding = max(worst, by_kind[kind]), max(rounding, away)
        kinds.append(kind)
    rounding = rounding if np.isfinite(rounding) else np.inf
    return ", ".join(dict.fromkeys(kinds)), worst, rounding


def _block(numbers: Any, at: int, reference: int) -> dict[str, float]:
    try:
        return _slopes(numbers, at, reference)
    except np.linalg.LinAlgError:  # within rounding of singular
        return {}


class _Case(NamedTuple):
    """Laws ``[K, G]``, maps from the template to each group, and new priors."""

    source: host.HostLaw
    target: host.HostLaw
    back: host.Values
    weights: np.ndarray
    reference: int
    stays: bool  # whether the reference group is the template


def _slopes(numbers: Any, at: int, reference: int) -> dict[str, float]:
    source, target = numbers.source[at], numbers.target[at]
    back = host.inverse(numbers.maps[at])  # from the template to each group
    stays = _stays(source, target, reference)
    case = _Case(source, target, back, numbers.new, reference, stays)
    vectors = target.kind == "MultivariateNormal"
    return _vector_slopes(case) if vectors else _scalar_slopes(case)


def _stays(source: host.HostLaw, target: host.HostLaw, reference: int) -> bool:
    pairs = [(source.values[k][:, reference], target.values[k][:, reference])
             for k in target.values]  # fmt: skip
    return all(
        np.max(np.abs(a - b)) <= ALIKE * np.max(np.abs(a)) + 1e-30 for a, b in pairs
    ) and bool(np.max(np.abs(host.divergence(
        _column(target, reference), _column(source, reference)))) < ALIKE**2)  # fmt: skip


def _column(law: host.HostLaw, group: int) -> host.HostLaw:
    return host.HostLaw(law.kind, {k: v[:, group] for k, v in law.values.items()})


# --- Laws of one feature, or of independent ones: by differences.


def _scalar_slopes(case: _Case) -> dict[str, float]:
    source, target, back, weights, reference, stays = case
    total, slopes = weights.sum(0), [0.0]
    if back:
        for group in range(weights.shape[1]):
            if stays and group == reference:
                continue
            slopes += _gain_slopes(_column(source, group), _column(target, group),
                                   weights[:, group] / total[group])  # fmt: skip
    if not stays:
        slopes += _template_slopes(case)
    return {"gains and shifts" if back else "one law for all": max(map(abs, slopes))}


def _gain_slopes(
    source: host.HostLaw, target: host.HostLaw, weight: np.ndarray
) -> list[float]:
    gained = next(iter(target.values.values()))
    features = gained.shape[1:]
    scale = target.values.get("scale", np.ones(gained.shape))
    unit = np.sqrt(np.mean(scale**2, 0))
    shifts = (
        (False, True) if target.kind in (*host.LOCATION_SCALE, "Weibull") else (False,)
    )
    slopes = []
    for feature in np.ndindex(features):
        for shift in shifts:

            def value(
                step: float, feature: tuple[int, ...] = feature, shift: bool = shift
            ):
                gain, constant = np.ones(features), np.zeros(features)
                if shift:
                    length = 1.0 if target.kind == "Weibull" else unit[feature]
                    constant[feature] += step * length
                else:
                    gain[feature] += step
                moved = host.move(target, {"gain": gain, "shift": constant})
                return float(weight @ host.divergence(moved, source))

            slopes.append((value(STEP) - value(-STEP)) / (2 * STEP))
    return slopes


def _template_slopes(case: _Case) -> list[float]:
    """Slopes in the parameters of each class's template, which all groups follow."""
    source, target, back, weights, reference, _ = case
    home = {k: v[:, reference] for k, v in target.values.items()}
    if back:
        own = host.inverse({k: v[reference] for k, v in back.items()})
        home = host.move(host.HostLaw(target.kind, home), own).values
    total = weights.sum(1, keepdims=True)
    slopes = []
    for name, value in home.items():
        for place in np.ndindex(value.shape[1:]):

            def moved(
                step: float,
                name: str = name,
                value: np.ndarray = value,
                place: tuple[int, ...] = place,
            ):
                changed = value.copy()
                at = (slice(None), *place)
                if name == "logits":
                    changed[at] += step
                elif name == "loc":
                    size = home.get("scale", np.ones(value.shape))
                    changed[at] += step * size[at]
                else:
                    changed[at] *= 1 + step
                law = {k: v[:, None] for k, v in {**home, name: changed}.items()}
                shape = weights.shape[1]
                law = {k: np.repeat(v, shape, 1) for k, v in law.items()}
                pushed = host.move(host.HostLaw(target.kind, law), back)
                cost = weights / total * host.divergence(pushed, source)
                return cost.sum(1)

            change = (moved(STEP) - moved(-STEP)) / (2 * STEP)
            slopes += [float(slope) for slope in change]
    return slopes


# --- Normal vectors: in closed form.


def _vector_slopes(case: _Case) -> dict[str, float]:
    source, target, back, weights, reference, stays = case
    pivots = target.values["cov"][:, reference]
    shifts = excess = np.zeros(len(weights))
    if not stays:
        shifts, excess = _template_slopes_of_vectors(source, target, back, weights)
    kinds: dict[str, list[float]] = {}
    groups = [g for g in range(weights.shape[1]) if not (stays and g == reference)]
    for group in groups:
        share = weights[:, group] / weights[:, group].sum()
        slopes = _group_slopes(
            _column(source, group), _column(target, group), back["weight"][group],
            share, pivots,
        )  # fmt: skip
        for kind, slope in slopes.items():
            # Coordinates are the reference group's: it moves relative to a pivot only,
            # whose own covariance is then no part of the template.
            if group != reference or kind.startswith(RELATIVE):
                kinds.setdefault(kind, []).append(slope)
    result = {}
    for kind, slopes in kinds.items():
        here, pinned = groups, excess
        if kind.startswith(RELATIVE):
            pinned = np.delete(excess, int(kind.removeprefix(RELATIVE)))
        else:
            here = [g for g in groups if g != reference]
        if len(slopes) == len(here):
            result[kind] = max(*slopes, *shifts, *pinned)
    if not stays:
        result[TEMPLATE] = max(*shifts, *excess)
    weight = back["weight"]
    diagonal = weight - np.einsum("gii->gi", weight)[..., None] * np.eye(
        weight.shape[-1]
    )
    if np.max(np.abs(diagonal)) <= 1e-9 * np.max(np.abs(weight)):
        result |= _marginal_slopes(case)
    return result


def _marginal_slopes(case: _Case) -> dict[str, float]:
    def marginals(law: host.HostLaw):
        variance = np.einsum("...ii->...i", law.values["cov"])
        values = {"loc": law.values["mean"], "scale": np.sqrt(variance)}
        return host.HostLaw("DiagonalNormal", values)

    gain = np.einsum("gii->gi", case.back["weight"])
    found = _scalar_slopes(
        case._replace(
            source=marginals(case.source),
            target=marginals(case.target),
            back={"gain": gain, "shift": case.back["bias"]},
        )
    )
    return {"diagonal, feature by feature": next(iter(found.values()))}


def _slope(source: host.HostLaw, target: host.HostLaw, share: np.ndarray) -> np.ndarray:
    """``<slope, E>`` is the change of the weighted divergence, shifts being free."""
    mean, cov = target.values["mean"], target.values["cov"]
    precision = np.linalg.inv(source.values["cov"])
    weighted = share[:, None, None] * precision
    # The best shift for a given E, which takes the means' weighted pull away.
    center = np.linalg.solve(weighted.sum(0), np.einsum("kij,kj->i", weighted, mean))
    away = mean - source.values["mean"]
    second = cov + away[:, :, None] * (mean - center)[:, None, :]
    return np.einsum("kij,kjl->il", weighted, second) - np.eye(mean.shape[-1])


def _group_slopes(
    source: host.HostLaw,
    target: host.HostLaw,
    weight: np.ndarray,
    share: np.ndarray,
    pivots: np.ndarray,
) -> dict[str, float]:
    root = np.linalg.cholesky(np.einsum("k,kij->ij", share, target.values["cov"]))
    away = target.values["mean"] - source.values["mean"]
    precision = np.linalg.inv(source.values["cov"])
    shift = np.einsum("k,kij,kj->i", share, precision, away)
    shift = float(np.linalg.norm(root.T @ shift))
    slope = _slope(source, target, share)
    unroot = np.linalg.inv(root).T
    found = {"general": max(shift, _norm(root.T @ slope @ unroot))}
    pooled = np.einsum("k,kij->ij", share, source.values["cov"])
    alike = host.HostLaw(source.kind, {
        "mean": source.values["mean"],
        "cov": np.broadcast_to(pooled, source.values["cov"].shape),
    })  # fmt: skip
    slope_alike = _slope(alike, target, share)
    shift_alike = np.linalg.solve(pooled, share @ away)
    found["shared covariance"] = max(
        float(np.linalg.norm(root.T @ shift_alike)),
        _norm(root.T @ slope_alike @ unroot),
    )
    # dT = E T; a definite T = C R moves by symmetric dC, and E = dC R T^-1.
    frames = {"positive definite": np.eye(len(weight))}
    for pivot, cov in enumerate(pivots):
        values, vectors = np.linalg.eigh(cov)
        inverse_root = (vectors / np.sqrt(values)) @ vectors.T
        frames[f"{RELATIVE}{pivot}"] = inverse_root
    for kind, frame in frames.items():
        core = weight @ np.linalg.inv(frame)
        if np.max(np.abs(core - core.T)) > ALIKE * np.max(np.abs(core)):
            continue
        values, vectors = np.linalg.eigh((core + core.T) / 2)
        if values[0] <= 0:
            continue
        free = slope @ np.linalg.inv(weight).T @ frame.T
        half = (vectors * np.sqrt(values)) @ vectors.T
        free = (free + free.T) / 2
        left = _norm(half @ free @ half)
        if len(weight) <= NEWTON:
            # The template's cells as the definite part of the map sees them.
            seen = frame @ np.linalg.inv(weight)
            cells = (
                seen @ target.values["cov"] @ seen.T,
                target.values["mean"] @ seen.T,
            )
            step = _decrement(free, (core + core.T) / 2, share, precision, *cells)
            left = min(left, step)
        found[kind] = max(shift, left)
    return found


def _decrement(
    slope: np.ndarray,
    core: np.ndarray,
    share: np.ndarray,
    precision: np.ndarray,
    cov: np.ndarray,
    mean: np.ndarray,
) -> float:
    """What a Newton step on the definite part of a map would gain, as a slope.

    Where features come in unlike units some directions are steep: a slope along these
    leaves less to gain than its square. The curvature of the divergence by a symmetric
    matrix, shifts being free, is written out, O(d^6).
    """
    d = len(core)
    rows, columns = np.triu_indices(d)
    basis = np.zeros((len(rows), d, d))
    basis[np.arange(len(rows)), rows, columns] = 1
    basis[np.arange(len(rows)), columns, rows] = 1
    weighted = share[:, None, None] * precision
    curvature, pulls = np.zeros((len(rows),) * 2), np.zeros((len(rows), d))
    for heavy, spread, center in zip(weighted, cov, mean, strict=True):
        second = spread + np.outer(center, center)
        pushed = np.einsum("ij,mjk,kl->mil", heavy, basis, second)
        curvature += np.einsum("mil,nil->mn", pushed, basis)
        pulls += np.einsum("ij,mjk,k->mi", heavy, basis, center)
    curvature -= pulls @ np.linalg.solve(weighted.sum(0), pulls.T)
    inverse = np.linalg.inv(core)
    turned = np.einsum("ij,mjk->mik", inverse, basis)
    curvature += np.einsum("mij,nji->mn", turned, turned)
    gradient = np.einsum("mij,ij->m", basis, slope)
    # In units of each entry, in which the matrix is as well conditioned as it can be.
    unit = 1 / np.sqrt(np.diagonal(curvature))
    scaled = curvature * unit[:, None] * unit
    step = np.linalg.solve(np.linalg.cholesky(scaled), gradient * unit)
    return float(np.linalg.norm(step) * np.sqrt(2 / d))


def _template_slopes_of_vectors(
    source: host.HostLaw, target: host.HostLaw, back: host.Values, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes in the mean and in the covariance of each class's template."""
    shifts, excess = [], []
    for mean, cov, own, other, weight in zip(
        target.values["mean"], target.values["cov"], source.values["mean"],
        source.values["cov"], weights / weights.sum(1, keepdims=True), strict=True,
    ):  # fmt: skip
        matrices = back["weight"]
        # A root of the template's covariance, which every group's leads back to.
        root = np.linalg.solve(matrices[0], np.linalg.cholesky(cov[0]))
        pulls = matrices.swapaxes(-1, -2) @ np.linalg.inv(other)
        shift = np.einsum("g,gij,gj->i", weight, pulls, mean - own)
        spread = np.einsum("g,gij->ij", weight, pulls @ matrices)
        shifts.append(float(np.linalg.norm(root.T @ shift)))
        excess.append(_norm(root.T @ spread @ root - np.eye(len(root))))
    return np.array(shifts), np.array(excess)


def _norm(matrix: np.ndarray) -> float:
    return float(np.linalg.norm(matrix) / np.sqrt(len(matrix)))
