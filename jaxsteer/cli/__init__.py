"""The command line ``jaxsteer``: demo, steer, apply and audit."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; without its packages, say what to install."""
    try:
        from jaxsteer.cli._app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("jaxsteer"):
            raise
        raise SystemExit(
            f"error: the command line needs the package {error.name}: "
            "pip install 'jaxsteer[cli]'"
        ) from None
    app()
