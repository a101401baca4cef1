"""Colors, axes and files that all figures share; nothing global is changed."""

from __future__ import annotations

import base64
import functools
import io
import itertools
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Axes to draw on: one, a list, or the array of ``plt.subplots``.
AxesLike: TypeAlias = "Axes | Sequence[Axes] | np.ndarray | None"

#: Okabe and Ito's colors, told apart with every common color blindness. Yellow is left
#: out: it is too light for lines.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
#: Line styles go with the colors, for print without color.
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GRAY = "#6b6b6b"


def line_style(i: int, *, dash: int = 0, dashes: int = 1) -> dict[str, Any]:
    """Return color and dashes of line `i`, which no other of the first 49 has.

    Args:
        i: Which line, such as the code of a group.
        dash: Which of several lines of one color, such as the code of a class.
        dashes: How many lines of one color there are.
    """
    n = len(COLORS)
    # The second round of the colors is drawn with other dashes than the first.
    turn = dash + dashes * (i // n) if dashes > 1 else i + i // n
    return {"color": COLORS[i % n], "linestyle": DASHES[turn % len(DASHES)]}


def mark_style(i: int) -> dict[str, Any]:
    """Return color and marker of mark `i`, which no other of the first 49 has."""
    n = len(COLORS)
    return {"color": COLORS[i % n], "marker": MARKERS[(i + i // n) % len(MARKERS)]}


@functools.cache
def _drawing() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Figures need matplotlib: pip install 'jaxsteer[plots]'."
        ) from error

    class Drawing(Figure):
        """A figure that a notebook shows by itself, whatever its backend."""

        def _repr_png_(self) -> bytes:
            return figure_bytes(self)

    return Drawing


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """Return an empty figure in inches that belongs to no window."""
    return _drawing()(figsize=(width, height), layout="constrained", **options)


def panels(
    ax: AxesLike, shape: tuple[int, int], size: tuple[float, float], **options: Any
) -> tuple[Any, np.ndarray]:
    """Return a figure and its axes, new ones or those that were handed in.

    Args:
        ax: None for a new figure, or as many axes as the shape asks for: one, a list or
            an array, such as ``plt.subplots(1, 2)[1]``.
        shape: Rows and columns of panels.
        size: Width and height of a new figure, inches.
        options: Of ``subplots``, for a new figure.

    Returns:
        The figure, and the axes in an array of that shape.

    Raises:
        ValueError: If there are more or fewer axes.
    """
    if ax is None:
        figure = new_figure(*size)
        return figure, figure.subplots(*shape, squeeze=False, **options)
    axes = np.asarray(ax, object).reshape(-1)
    if len(axes) != shape[0] * shape[1]:
        raise ValueError(
            f"ax holds {len(axes)} axes, and this picture has {shape[0] * shape[1]} "
            f"panels: pass as many, such as plt.subplots({shape[0]}, {shape[1]})[1], or "
            "leave ax out."
        )
    return axes[0].figure, axes.reshape(shape)


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


#: Inches that a letter, a handle with its gaps and a line of a legend take.
_LETTER, _HANDLE, _LINE = 0.072, 0.62, 0.19


def legend_below(figure: Any, ax: Axes, *, handles: Any = None) -> None:
    """Put one legend under all panels, where it covers no data.

    It has as many columns as fit, long names go on in the next line, and a figure of
    ours grows by its lines; in a figure of others it stands in the last of its panels.
    """
    if handles is None:
        handles, labels = ax.get_legend_handles_labels()
    else:
        labels = [handle.get_label() for handle in handles]
    if not labels:
        return
    own = isinstance(figure, _drawing())
    if not own:
        ax.legend(handles, labels, frameon=False, fontsize=8)
        return
    width = figure.get_figwidth() - 0.2
    room = max(12, int((width - _HANDLE) / _LETTER))
    labels = [wrapped(text, room) for text in labels]
    longest = max(len(line) for text in labels for line in text.split("\n"))
    columns = max(1, int(width / (_HANDLE + _LETTER * longest)))
    columns = min(columns, len(labels))
    # Columns are filled one after the other: as even as the rows allow.
    rows = -(-len(labels) // columns)
    columns = -(-len(labels) // rows)
    tall = max(text.count("\n") + 1 for text in labels)
    figure.set_figheight(figure.get_figheight() + _LINE * (rows * tall - 1))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
    )


def names_or_codes(names: Sequence[Any], size: int) -> list[str]:
    """Return a name for each of `size` groups, no two alike."""
    given = [str(name) for name in names]
    return distinct(given + [f"group {a}" for a in range(len(given), size)])


def distinct(names: Sequence[str]) -> list[str]:
    """Number the repeats of a name, such as of 1 and "1"."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return out


def wrapped(text: str, width: int) -> str:
    """Return a text in lines of at most so many letters."""
    return "\n".join(textwrap.wrap(text, width) or [""])


def shortened(names: Sequence[str], limit: int) -> list[str]:
    """Leave out the ends of long names, or what they begin with alike; none are equal."""
    ends = [n if len(n) <= limit else n[: limit - 1] + "…" for n in names]
    for text in {t for t in ends if ends.count(t) > 1}:
        alike = [i for i, t in enumerate(ends) if t == text]
        letters = zip(*(names[i] for i in alike), strict=False)
        same = len(list(itertools.takewhile(lambda two: len(set(two)) == 1, letters)))
        head = limit // 3
        for i in alike:
            # From three letters before they differ.
            tail = names[i][max(head, same - 3) :]
            room = limit - head - 1
            tail = tail if len(tail) <= room else tail[: room - 1] + "…"
            ends[i] = f"{names[i][:head]}…{tail}"
    return distinct(ends)


def span(scores: Any) -> tuple[float, float]:
    """Return a range that holds 0, 1 and all scores, so that none is cut off."""
    values = [np.asarray(score, float) for score in scores]
    low = min((float(np.min(v)) for v in values if v.size), default=0.0)
    high = max((float(np.max(v)) for v in values if v.size), default=1.0)
    return min(0.0, low), max(1.0, high)


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
