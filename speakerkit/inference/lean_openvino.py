"""OpenVINO imported without its converter of other formats, which nothing here calls.

The converter takes longer to import than all else of OpenVINO, 70 ms of 113, and brings a telemetry client.
Who asks for ``openvino.convert_model`` in the same process still gets it.
"""

import sys
from types import ModuleType

CONVERTER = "openvino.tools.ovc"


def import_openvino() -> ModuleType:
    """The package ``openvino``; as it is where something else has imported it already.

    Raises:
        ImportError: it isn't installed.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    sys.modules[CONVERTER] = None  # its import fails, which OpenVINO allows for
    try:
        import openvino
    finally:
        del sys.modules[CONVERTER]
    vars(openvino).setdefault("__getattr__", _import_late)
    return openvino


def _import_late(name: str) -> object:
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    from openvino.tools.ovc import convert_model

    return convert_model
