"""Fail if a type of the public interface is unknown, given pyright's report.

pyright --verifytypes jaxsteer --ignoreexternal --outputjson | python type_completeness.py

What remains unknown is the type of bases that scikit-learn does not annotate, and of what
a decorator of JAX returns.
"""

from __future__ import annotations

import json
import sys

SCRIPT = "jaxsteer.audit_report.recompute"  # runs alone, and is nobody's import
OTHERS = (
    "metaclass unknown",
    "base class",
    'class "custom_jvp"',
    'type is "TabularEncoder | None"',
    'type is "GroupAware | None"',
)


def main() -> int:
    """Print what is unknown; return 1 if there is any, or nothing was seen."""
    report = json.load(sys.stdin)["typeCompleteness"]
    symbols = report["symbols"]
    unknown = [
        f"{symbol['name']}: {found['message']}"
        for symbol in symbols
        for found in symbol["diagnostics"]
        if found["severity"] == "error"
        and not symbol["name"].startswith(SCRIPT)
        and not any(other in found["message"] for other in OTHERS)
    ]
    counts = report["exportedSymbolCounts"]
    print(f"{sum(counts.values())} public symbols, {len(unknown)} untyped")
    print("\n".join(unknown))
    return int(bool(unknown) or not symbols)


if __name__ == "__main__":
    sys.exit(main())
