"""Colors, axes and files that all figures share; nothing global is changed."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's colors, told apart with every common color blindness. Yellow is left
#: out: it is too light for lines.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
#: Line styles go with the colors, for print without color.
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GRAY = "#6b6b6b"


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """Return an empty figure in inches that belongs to no window."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Figures need matplotlib: pip install 'jaxsteer[plots]'."
        ) from error
    return Figure(figsize=(width, height), layout="constrained", **options)


def clean(ax: Axes, *, grid: Literal["both", "x", "y"] = "both") -> Axes:
    """Take the ink off the frame and put a light grid behind the data."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(GRAY)
    ax.grid(True, axis=grid, color="#e6e6e6", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors="#333333", labelsize=9)
    return ax


def legend_below(figure: Figure, ax: Axes, *, columns: int | None = None) -> None:
    """Put one legend under all panels, where it covers no data."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(columns or len(labels), len(labels)) or 1,
        frameon=False,
        fontsize=9,
    )


def names_or_codes(names: Sequence[Any], size: int) -> list[str]:
    """Return a name for each of `size` groups."""
    given = [str(name) for name in names]
    return given + [f"group {a}" for a in range(len(given), size)]


def figure_bytes(figure: Figure, kind: str = "png") -> bytes:
    """Return a figure as a PNG or SVG file; the same figure gives the same bytes."""
    import matplotlib

    buffer = io.BytesIO()
    if kind == "svg":
        with matplotlib.rc_context({"svg.hashsalt": "jaxsteer"}):
            figure.savefig(buffer, format="svg", metadata={"Date": None})
    else:
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def figure_uri(figure: Figure) -> str:
    """Return a figure as a ``data:`` address for a self-contained page."""
    return "data:image/png;base64," + base64.b64encode(figure_bytes(figure)).decode()
