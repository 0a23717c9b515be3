"""matplotlib, imported when a picture is asked for and never before."""

from __future__ import annotations

from typing import Any

__all__ = ["new_figure", "require"]


def require(feature: str) -> None:
    """Raise ImportError, with the fix, unless matplotlib can be imported.

    For code that draws after long work: ask before it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{feature} needs matplotlib, which is not installed: pip install 'pycnn[viz]'"
        ) from error


def new_figure(feature: str, width: float, height: float) -> Any:
    """A figure that draws into files, in inches; the user's own backend stays as it is."""
    require(feature)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
