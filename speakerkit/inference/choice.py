"""A model file, and the library, precision and device that it is run with."""

from dataclasses import dataclass, field

from speakerkit.models.model_info import ModelInfo


@dataclass(frozen=True)
class Choice:
    """A model file and how it is run; small enough to hand to worker processes."""

    path: str
    sha256: str  # of the whole file
    info: ModelInfo
    backend: str  # torch, onnx or openvino
    precision: str  # float32, bfloat16 or int8
    device: str  # cpu, cuda or cuda:N
    graph: str | bytes = field(default="", repr=False)  # the ONNX file that is run, or its bytes
