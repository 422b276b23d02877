"""Drawings, PNG or SVG. matplotlib is an extra: imported where something is drawn, and without a screen."""

import itertools
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from speakerkit.io.files import open_output

PICTURE_FORMATS = ("png", "svg")

_RESOLUTION_DPI = 120
_MARKS = ("o", "s", "^", "D", "v", "P")


class DetCurve(NamedTuple):
    """What is drawn of one system; everything in normal deviates, from `scoring.det_plot`.

    Attributes:
        x, y: (num_points,) of false alarms and misses.
        marks: what an operating point is called -> its x and y. Equal names have one shape in all curves.
        band: x, low y and high y of the shaded interval, each (num_rates,), or None.
    """
    x: np.ndarray
    y: np.ndarray
    marks: Mapping[str, tuple[float, float]] = MappingProxyType({})
    band: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


def picture_format(path: str | os.PathLike) -> str | None:
    """`png` or `svg` by a name's ending, None for another one."""
    ending = os.path.splitext(path)[1].lower().removeprefix(".")
    return ending if ending in PICTURE_FORMATS else None


def draw_det(path: str | os.PathLike, curves: Mapping[str, DetCurve | tuple[np.ndarray, np.ndarray]],
             ticks: tuple[np.ndarray, list[str]], title: str = "",
             y_ticks: tuple[np.ndarray, list[str]] | None = None, band_name: str = "interval") -> None:
    """Draw DET curves into a PNG or, by the path's ending, an SVG; it appears whole or not at all.

    Args:
        path: the file.
        curves: what the legend says -> the curve, perhaps x and y alone.
        ticks: places and texts, from `scoring.det_plot.det_ticks`; of the false alarms' axis if there are `y_ticks`,
            else of both.
        band_name: what the legend calls shaded intervals, if there are any.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the extra `plot` brings it.
        MachineError: the file can't be written.

    Equal arguments give equal bytes.
    """
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot: it would look for a screen

    figure = Figure(figsize=(6, 6), dpi=_RESOLUTION_DPI, layout="constrained")
    axes = figure.subplots()
    y_ticks = y_ticks or ticks
    x_ends, y_ends = ticks[0][[0, -1]], y_ticks[0][[0, -1]]
    axes.plot(x_ends, x_ends, color="0.8", linewidth=1)  # where the EER lies
    _draw_curves(axes, {label: DetCurve(*curve) for label, curve in curves.items()}, band_name)
    axes.set(xlabel="false alarms, %", ylabel="misses, %", xlim=x_ends, ylim=y_ends, aspect="equal", title=title)
    axes.set_xticks(*ticks)
    axes.set_yticks(*y_ticks)
    axes.grid(color="0.9")
    axes.legend()
    kind = picture_format(path) or "png"
    metadata = {"Date": None} if kind == "svg" else None
    with open_output(path) as stream, matplotlib.rc_context({"svg.hashsalt": "speakerkit"}):
        figure.savefig(stream, format=kind, metadata=metadata)


def _draw_curves(axes, curves: Mapping[str, DetCurve], band_name: str) -> None:
    """Bands below lines below marks; each name of a mark stands in the legend once."""
    names = list(dict.fromkeys(name for curve in curves.values() for name in curve.marks))
    shapes = dict(zip(names, itertools.cycle(_MARKS)))
    for label, curve in curves.items():
        line, = axes.plot(curve.x, curve.y, label=label, zorder=2)
        if curve.band is not None:
            axes.fill_between(*curve.band, color=line.get_color(), alpha=0.2, linewidth=0, zorder=1)
        for name, (x, y) in curve.marks.items():  # at an edge they stand out of the frame rather than vanish
            axes.plot([x], [y], shapes[name], color=line.get_color(), markeredgecolor="black", clip_on=False, zorder=3)
    if any(curve.band is not None for curve in curves.values()):
        axes.fill([], [], color="0.5", alpha=0.2, linewidth=0, label=band_name)
    for name in names:
        axes.plot([], [], shapes[name], color="white", markeredgecolor="black", label=name)


def draw_training_curve(path: str | os.PathLike, series: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    """Draw quantities over the training steps into a PNG, one below the other.

    Args:
        path: the file; it appears whole or not at all.
        series: name -> steps, values; a name without values is left out.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the extra `plot` brings it.
        MachineError: the file can't be written.
    """
    from matplotlib.figure import Figure

    series = {name: points for name, points in series.items() if len(points[0])} or {"nothing yet": ([], [])}
    figure = Figure(figsize=(7, 1.9 * len(series) + 0.5), dpi=_RESOLUTION_DPI, layout="constrained")
    panels = figure.subplots(len(series), sharex=True, squeeze=False)[:, 0]
    for axes, (name, (steps, values)) in zip(panels, series.items(), strict=True):
        axes.plot(steps, values, linewidth=1.2, marker="." if len(steps) < 50 else "")
        axes.set_ylabel(name)
        axes.grid(color="0.9")
    panels[-1].set_xlabel("step")
    with open_output(path) as stream:
        figure.savefig(stream, format="png")
