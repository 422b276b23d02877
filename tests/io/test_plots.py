"""Drawings are PNG files that appear whole."""

import subprocess
import sys

import numpy as np
import pytest

from speakerkit.errors import MachineError
from speakerkit.io.plots import draw_det, draw_training_curve

PNG = b"\x89PNG\r\n\x1a\n"
TICKS = (np.array([-2.0, 0.0, 1.0]), ["2", "50", "84"])


def test_det_curves(tmp_path):
    curves = {"one": (np.array([1, -2]), np.array([-2, 1])), "two": ([0], [0])}
    draw_det(tmp_path / "new" / "det.png", curves, TICKS, "speech")
    assert (tmp_path / "new" / "det.png").read_bytes().startswith(PNG)


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
