"""OpenVINO without its converter, in a process of its own: which modules there are, and what is still had."""

import subprocess
import sys

LEAN = """
import sys
from speakerkit.inference.lean_openvino import import_openvino

openvino = import_openvino()
print(openvino is import_openvino(), openvino.Core().available_devices[0])
print([name for name in ("openvino.tools.ovc", "openvino_telemetry", "torch") if name in sys.modules])
print(hasattr(openvino, "no_such_name"), callable(openvino.convert_model))
"""
GIVEN = """
import openvino
from speakerkit.inference.lean_openvino import import_openvino

print(import_openvino() is openvino, "convert_model" in vars(openvino))
"""


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_the_converter_is_imported_when_it_is_asked_for():
    assert run(LEAN).splitlines() == ["True CPU", "[]", "False True"]


def test_what_the_user_has_imported_stays_as_it_is():
    assert run(GIVEN) == "True True\n"
