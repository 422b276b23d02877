"""PNG drawings. matplotlib is an extra: imported where something is drawn, and without a screen."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from speakerkit.io.files import open_output

_RESOLUTION_DPI = 120


def draw_det(path: str | os.PathLike, curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
             ticks: tuple[np.ndarray, list[str]], title: str = "") -> None:
    """Draw DET curves into a PNG, which appears whole or not at all.

    Args:
        path: the file.
        curves: what the legend says -> x, y in normal deviates, from `scoring.det_plot.det_points`.
        ticks: places and texts of both axes, from `scoring.det_plot.det_ticks`.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the extra `plot` brings it.
        MachineError: the file can't be written.
    """
    from matplotlib.figure import Figure  # not pyplot: it would look for a screen

    figure = Figure(figsize=(6, 6), dpi=_RESOLUTION_DPI, layout="constrained")
    axes = figure.subplots()
    for label, (x, y) in curves.items():
        axes.plot(x, y, label=label)
    places, texts = ticks
    ends = places[[0, -1]]
    axes.plot(ends, ends, color="0.8", linewidth=1)  # where the EER lies
    axes.set(xlabel="false alarms, %", ylabel="misses, %", xlim=ends, ylim=ends, aspect="equal", title=title)
    axes.set_xticks(places, texts)
    axes.set_yticks(places, texts)
    axes.grid(color="0.9")
    axes.legend()
    with open_output(path) as stream:
        figure.savefig(stream, format="png")


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
