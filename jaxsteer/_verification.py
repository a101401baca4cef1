"""Whether a steering keeps what it promises, recomputed on the host in float64.

Nothing here is shared with the programs that found the steering: formulas are those of
:mod:`jaxsteer._host_laws`, and how much the numbers' own rounding can move a figure is
measured by moving every number by as much.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxsteer import _host_laws as host
from jaxsteer._errors import is_concrete
from jaxsteer._stationarity import TEMPLATE, stationarity
from jaxsteer.solvers import SolveError, Status

DRAWS = 4
# Roundings by which every number is moved: those of its storage and of the arithmetic
# that found it.
ROUNDINGS = 32
# A figure that rounding alone moves by this much cannot be checked (nats, and scale-free
# slopes).
HOPELESS = 0.05
STATIONARY = 30  # times the root of the rounding unit


@dataclasses.dataclass(frozen=True)
class Check:
    """One promise, and what was found.

    Attributes:
        name: What was promised.
        found: By how much it is missed.
        allowed: What rounding, and the solver's tolerance, account for.
    """

    name: str
    found: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether the promise is kept; False where a number is not finite."""
        return bool(self.found <= self.allowed < np.inf)

    def __str__(self) -> str:
        """One line."""
        word = "holds" if self.holds else "DOES NOT HOLD"
        return f"{self.name}: {word} ({self.found:.1e}, allowed {self.allowed:.1e})"


@dataclasses.dataclass(frozen=True)
class Verification:
    """What :meth:`jaxsteer.Steering.verify` found.

    Attributes:
        status: How the solve says it ended.
        checks: What was recomputed.
        unchecked: What was not, and why.
        kl: The divergence as recomputed, nats; NaN where it was not.
        maps: The kind of maps among which the answer is stationary, "" if none was
            found or looked for.
    """

    status: Status
    checks: tuple[Check, ...]
    unchecked: tuple[str, ...]
    kl: float
    maps: str = ""

    @property
    def ok(self) -> bool:
        """Whether the solve converged and every promise that was checked is kept."""
        kept = all(check.holds for check in self.checks)
        return self.status == Status.CONVERGED and kept and bool(self.checks)

    def require(self) -> Verification:
        """Return self, or raise :class:`jaxsteer.SolveError` with what was found."""
        if not self.ok:
            raise SolveError(str(self))
        return self

    def __str__(self) -> str:
        """What was promised and found, a line each."""
        head = "verified" if self.ok else "NOT VERIFIED"
        lines = [f"Steering: {head} in NumPy float64; status {self.status.name}"]
        lines += [f"  {check}" for check in self.checks]
        lines += [f"  not checked: {reason}" for reason in self.unchecked]
        return "\n".join(lines)


class _Numbers:
    """A steering's numbers on the host, as they are or moved by their rounding."""

    def __init__(self, steering: Any, seed: int | None, eps: float):
        rng = None if seed is None else np.random.default_rng(seed)

        def moved(values: host.Values) -> host.Values:
            if rng is None:
                return values
            return {k: _jitter(rng, k, v, eps) for k, v in values.items()}

        def laws(law: Any) -> list[host.HostLaw]:
            found = host.read_laws(law)
            return [host.HostLaw(one.kind, moved(one.values)) for one in found]

        self.source = laws(steering.source.conditionals)
        self.target = laws(steering.target.conditionals)
        maps = host.read_maps(steering.target.conditionals, steering.group_maps)
        self.maps = [moved(map_) for map_ in maps]
        old, new = (
            np.asarray(p.priors, float) for p in (steering.source, steering.target)
        )
        self.old = moved({"priors": old})["priors"]
        self.new = moved({"priors": new})["priors"]

    def kl(self) -> float:
        """``KL(target || source)`` in nats."""
        used = self.new > 0
        ratio = np.where(used, self.new, 1) / np.where(used, self.old, 1)
        prior = np.sum(np.where(used, self.new * np.log(ratio), 0))
        pairs = zip(self.target, self.source, strict=True)
        cells = sum(host.divergence(*pair) for pair in pairs)
        return float(prior + np.sum(np.where(used, self.new * cells, 0)))

    def steered(self) -> list[host.HostLaw]:
        """The target's cells where the group maps take them."""
        pairs = zip(self.target, self.maps, strict=True)
        return [host.move(law, map_) for law, map_ in pairs]


def verify(steering: Any) -> Verification:
    """See :meth:`jaxsteer.Steering.verify`."""
    if not is_concrete(steering.kl, steering.status):
        raise ValueError(
            "a steering is verified on the host: call verify() outside jit and vmap."
        )
    if np.ndim(steering.kl) != 0:
        raise ValueError(
            "verify() takes one steering, got a batch; pick a row first: "
            "jax.tree.map(lambda leaf: leaf[r], steering)."
        )
    status = Status(int(steering.status))
    if status != Status.CONVERGED:
        return Verification(status, (), ("a solve that did not converge",), np.nan)
    if steering.noise is not None:
        return _verify_channel(steering, status)
    eps = float(np.finfo(np.asarray(steering.target.priors).dtype).eps)
    try:
        exact = _Numbers(steering, None, eps)
    except KeyError as family:
        reason = f"the family {family} has no formula on the host"
        return Verification(status, (), (reason,), np.nan)
    draws = [_Numbers(steering, seed, ROUNDINGS * eps) for seed in range(DRAWS)]
    with np.errstate(all="ignore"):
        checks, unchecked = _priors(steering, exact, eps)
        hidden = _singular_by_rounding(exact, eps)
        orbit = _ideal(exact, draws, eps)
        _add(checks, unchecked, *orbit, hidden=hidden)
        kl, rounding = exact.kl(), [one.kl() for one in draws]
        allowed = _spread(kl, rounding) + 1e3 * eps * (1 + abs(kl))
        difference = abs(float(steering.kl) - kl)
        name = "KL divergence as stated"
        _add(checks, unchecked, name, difference, allowed, hidden=hidden)
        limit = STATIONARY * np.sqrt(eps)
        found = stationarity(exact, draws, _reference(steering), limit)
    maps, slope, rounding = found
    if slope is None:
        unchecked.append(f"whether the answer is a nearest one: {maps}")
        maps = ""
    else:
        allowed = limit + rounding
        name = f"no nearer answer nearby ({maps})"
        if slope > allowed and not orbit[-1] <= HOPELESS:
            # The kind of the maps is told by their matrices, which are as blurred.
            unchecked.append(f"{name}: rounding alone leaves nothing of the maps' kind")
            maps = ""
        else:
            _add(checks, unchecked, name, slope, allowed)
        if TEMPLATE in maps:
            unchecked.append("whether other maps are nearer: they follow a model of one "
                             "covariance for all classes, or are not nearest")  # fmt: skip
    unchecked.append("whether another local minimum is lower, where there are several")
    return Verification(status, tuple(checks), tuple(unchecked), kl, maps)


def _singular_by_rounding(numbers: _Numbers, eps: float) -> bool:
    """Whether a covariance has no inverse, or has one, by its numbers' rounding alone.

    What is computed from it is then missing, or not, by chance. A covariance further
    from definite than that is none, and is no excuse.
    """
    least = []
    for law in (*numbers.source, *numbers.target):
        if "cov" in law.values:
            cov = law.values["cov"]
            deviation = np.sqrt(np.einsum("...ii->...i", cov))
            scaled = cov / deviation[..., :, None] / deviation[..., None, :]
            if not np.isfinite(scaled).all():
                return False
            least.append(np.linalg.eigvalsh(scaled).min() / scaled.shape[-1])
    return bool(least) and abs(min(least)) <= ROUNDINGS * eps


def _add(
    checks: list[Check],
    unchecked: list[str],
    name: str,
    found: float,
    allowed: float,
    *,
    hidden: bool = False,
) -> None:
    if hidden and not np.isfinite(found):
        reason = "rounding alone makes a covariance singular, or not"
        unchecked.append(f"{name}: {reason}")
    elif not np.isfinite(found):
        checks.append(Check(name, float(found), 0.0))
    elif not allowed <= HOPELESS:
        unchecked.append(
            f"{name}: the numbers' rounding alone moves it by {allowed:.1e}"
        )
    else:
        checks.append(Check(name, float(found), float(allowed)))


def _priors(
    steering: Any, exact: _Numbers, eps: float
) -> tuple[list[Check], list[str]]:
    total = Check("priors sum to 1", abs(exact.new.sum() - 1), 100 * eps)
    if not steering.ideal:
        away = np.max(np.abs(exact.new - exact.old))
        kept = Check("priors as they were", float(away), 100 * eps)
        return [total, kept], ["equalized odds of rules that use priors: not promised"]
    product = exact.new.sum(1, keepdims=True) * exact.new.sum(0)
    away = np.max(np.abs(exact.new - product))
    return [total, Check("class and group independent", float(away), 1e3 * eps)], []


def _ideal(
    exact: _Numbers, draws: list[_Numbers], eps: float
) -> tuple[str, float, float]:
    """How far the groups' laws of one class are apart once steered, in nats."""
    steered = exact.steered()
    moved = []
    for one in draws:
        pairs = zip(one.steered(), steered, strict=True)
        moved.append(float(np.max(sum(host.divergence(*pair) for pair in pairs))))
    found = _apart(steered)
    return "groups alike once steered", found, 4 * max(moved) + 100 * eps**1.5 + 1e-12


def _apart(laws: list[host.HostLaw]) -> float:
    """The largest divergence between two groups' laws of one class."""
    worst = 0.0
    for by in range(host.divergence(laws[0], laws[0]).shape[1]):
        gaps = np.asarray(sum(host.divergence(law, _turned(law, by)) for law in laws))
        worst = np.maximum(worst, np.max(gaps))  # NaN stays
    return float(worst)


def _turned(law: host.HostLaw, by: int) -> host.HostLaw:
    rolled = {k: np.roll(v, by, axis=1) for k, v in law.values.items()}
    return host.HostLaw(law.kind, rolled)


def _spread(value: float, moved: list[float]) -> float:
    away = 4 * max(abs(one - value) for one in moved)
    return away if np.isfinite(away) else np.inf


def _jitter(
    rng: np.random.Generator, name: str, value: np.ndarray, eps: float
) -> np.ndarray:
    noise = eps * rng.uniform(-1, 1, value.shape)
    if name == "cov":
        noise = np.triu(noise) + np.swapaxes(np.triu(noise, 1), -1, -2)
    if name == "logits":
        return value + noise * (1 + np.abs(value))
    if name in ("weight", "bias"):  # rounded at the size of their largest entry
        size = np.max(np.abs(value), -1, keepdims=True)
        return value + np.where(value == 0, 0, noise * size)
    return value * (1 + noise)


def _reference(steering: Any) -> int:
    return 0 if steering.reference is None else int(steering.reference)


def _verify_channel(steering: Any, status: Status) -> Verification:
    """A channel promises that noisy maps bring all groups as near to one law as it says."""
    source = host.read_laws(steering.source.conditionals)[0]
    target = host.read_laws(steering.target.conditionals)[0]
    if source.kind != "MultivariateNormal" or target.kind != "MultivariateNormal":
        reason = f"a channel of the family {source.kind}"
        return Verification(status, (), (reason,), np.nan)
    maps = host.read_maps(steering.source.conditionals, steering.group_maps)[0]
    noise = np.asarray(steering.noise, float)
    moved = host.move(source, maps).values
    cov = moved["cov"] + noise @ noise.swapaxes(-1, -2)
    steered = host.HostLaw("MultivariateNormal", {"mean": moved["mean"], "cov": cov})
    eps = float(np.finfo(np.asarray(steering.kl).dtype).eps)
    stated = float(steering.residual)
    away = float(np.max(host.divergence(target, steered)))
    allowed = 1e4 * eps * (1 + stated)
    checks, unchecked = [], ["whether a channel that keeps more exists"]
    _add(checks, unchecked, "groups alike in the target", _apart([target]),
         1e-12)  # fmt: skip
    _add(checks, unchecked, "steered cells as far from the target as stated",
         abs(away - stated), allowed)  # fmt: skip
    return Verification(status, tuple(checks), tuple(unchecked), np.nan)
