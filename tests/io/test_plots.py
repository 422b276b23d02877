"""Drawings are PNG or SVG files that appear whole."""

import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from speakerkit.errors import MachineError
from speakerkit.io.plots import DetCurve, draw_det, draw_training_curve

PNG = b"\x89PNG\r\n\x1a\n"
BLUE, ORANGE = "#1f77b4", "#ff7f0e"  # matplotlib's first two colours
TICKS = (np.array([-2.0, 0.0, 1.0]), ["2", "50", "84"])


def test_det_curves(tmp_path):
    curves = {"one": (np.array([1, -2]), np.array([-2, 1])), "two": ([0], [0])}
    draw_det(tmp_path / "new" / "det.png", curves, TICKS, "speech")
    assert (tmp_path / "new" / "det.png").read_bytes().startswith(PNG)


def marks_of(path) -> list[str]:
    """The fill of every mark in a curve's colour."""
    shapes = ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}use")
    fills = [re.findall("fill: (#[0-9a-f]{6}); stroke: #000000", shape.get("style", "")) for shape in shapes]
    return sorted(fill for found in fills for fill in found if fill in (BLUE, ORANGE))


def test_marks_and_bands_of_several_systems(tmp_path):
    line = np.array([1.0, 0, -1, -2]), np.array([-2.0, -1, 0, 1])
    band = line[0][::-1], line[1] - 0.1, line[1] + 0.1
    curves = {"one": DetCurve(*line, {"EER": (-0.5, -0.5), "minDCF": (-1.5, 0.5)}, band),
              "two": DetCurve(line[0] + 0.3, line[1], {"EER": (-0.3, -0.3)})}
    draw_det(tmp_path / "det.svg", curves, TICKS, y_ticks=(np.array([-2.0, 0.5]), ["low", "high"]))
    picture = (tmp_path / "det.svg").read_text(encoding="utf-8")
    texts = re.findall("<!-- (.*?) -->", picture)  # text is drawn as shapes and stands in comments
    assert {"one", "two", "EER", "minDCF", "low", "high", "84", "interval"} <= set(texts)
    assert texts.count("EER") == texts.count("minDCF") == 1  # in the legend, once
    assert marks_of(tmp_path / "det.svg") == [BLUE, BLUE, ORANGE]
    assert "fill-opacity: 0.2" in picture
    draw_det(tmp_path / "plain.svg", {name: curve[:2] for name, curve in curves.items()}, TICKS)
    assert marks_of(tmp_path / "plain.svg") == []
    assert "fill-opacity: 0.2" not in (tmp_path / "plain.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_equal_curves_give_equal_bytes(tmp_path, ending):
    for name in "ab":
        draw_det(tmp_path / f"{name}.{ending}", {"one": (np.array([1, -2]), np.array([-2, 1]))}, TICKS)
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


@pytest.mark.parametrize("series", [
    {},
    {"loss": ([], []), "accuracy": ([], [])},
    {"loss": ([1, 2, 3], [5.0, 4.0, 3.5]), "accuracy": ([1, 2, 3], [0, 0.1, 0.3]), "eer_percent": ([2], [30.0])},
])
def test_training_curves(tmp_path, series):
    draw_training_curve(tmp_path / "curve.png", series)
    assert (tmp_path / "curve.png").read_bytes().startswith(PNG)


def test_no_half_drawing(tmp_path):
    with pytest.raises(MachineError):
        draw_det(tmp_path, {"one": ([0], [0])}, TICKS)
    with pytest.raises(ValueError, match="shape"):
        draw_det(tmp_path / "det.png", {"one": ([0], [0, 1])}, TICKS)
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib():
    """The module is there without it, and only drawing says what is missing."""
    code = ("import sys; sys.modules['matplotlib'] = None\n"
            "from speakerkit.io import plots\n"
            "try:\n    plots.draw_training_curve('curve.png', {})\n"
            "except ModuleNotFoundError as error:\n    print('missing:', error.name)\n")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.startswith("missing: matplotlib")
