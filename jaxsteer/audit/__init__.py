"""What can be said of a population, or of predictions, after the fact."""

from __future__ import annotations

from jaxsteer.audit import metrics

__all__ = ["metrics"]
