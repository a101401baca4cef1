"""The command line ``jaxsteer``: demo, steer, apply and audit."""

from __future__ import annotations

import os

__all__ = ["main"]


def main() -> None:
    """Run the command line; without its packages, say what to install."""
    from jaxsteer.cli import _signals

    _open_standard_streams()
    _signals.install()
    try:
        with _signals.loading():
            from jaxsteer.cli._app import app

        app()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("jaxsteer"):
            raise
        raise SystemExit(
            f"error: the command line needs the package {error.name}: "
            "pip install 'jaxsteer[cli]'"
        ) from None
    except KeyboardInterrupt:
        raise SystemExit(_signals.exit_code()) from None
    finally:
        _signals.finish()


def _open_standard_streams() -> None:
    """Open what the caller closed, or the next file would become standard output."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
