"""What a fit promises, recomputed on the host before anything is written."""

from __future__ import annotations

from typing import Any

from jaxsteer.maps import AffineMap


def verified(steering: Any) -> Any:
    """Return a steering's :class:`Verification`, None where nothing of it is promised.

    Args:
        steering: A `Steering`, or an `AffineMap` or None, which promise no ideal
            population.
    """
    if steering is None or isinstance(steering, AffineMap):
        return None
    return steering.verify()


def verification_facts(found: Any) -> list[tuple[str, str]]:
    """Return name and value of each promise that was checked, for a page."""
    if found is None:
        return []
    word = "yes" if found.ok else "NO: do not use this before you know why"
    facts = [("verified anew, in NumPy float64", word)]
    for check in found.checks:
        name, _, rest = str(check).partition(": ")
        facts.append((name, rest))
    return facts + [("not checked", reason) for reason in found.unchecked]


def verification_note(found: Any) -> list[str]:
    """Return what must be read before the figures, nothing where promises are kept."""
    if found is None or found.ok:
        return []
    broken = [str(check) for check in found.checks if not check.holds]
    return [
        "The maps were checked anew in NumPy float64 and do NOT keep what they promise "
        f"({'; '.join(broken) or 'nothing could be checked'}). Do not use them before "
        "you know why: columns that nearly repeat each other are the usual cause."
    ]


def verification_json(found: Any) -> dict[str, Any] | None:
    """Return the same for ``--json``."""
    if found is None:
        return None
    return {
        "ok": found.ok,
        "checks": [
            {"name": c.name, "found": c.found, "allowed": c.allowed, "holds": c.holds}
            for c in found.checks
        ],
        "unchecked": list(found.unchecked),
    }
