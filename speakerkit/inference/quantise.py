"""An exported model in int8: its convolutions quantised by ranges seen on recordings."""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from speakerkit.features.graph_names import SAMPLES
from speakerkit.inference.onnx_export import seal
from speakerkit.models import onnx_file


class _Recordings(CalibrationDataReader):
    """One recording at a time, as the graph takes them."""

    def __init__(self, recordings: Iterable[np.ndarray]):
        self.recordings: Iterator[np.ndarray] = iter(recordings)

    def get_next(self) -> dict[str, np.ndarray] | None:
        samples = next(self.recordings, None)
        return None if samples is None else {SAMPLES: samples[None]}


def quantise_int8(data: bytes, recordings: Iterable[np.ndarray]) -> bytes:
    """An ONNX file whose convolutions have int8 weights, a scale a channel, and uint8 inputs (static, QDQ).

    Args:
        data: a float32 ONNX file of ours.
        recordings: (num_samples,) float32 at the model's rate; the ranges of the inputs are those seen on them.

    Front end, pooling and embedding layer stay float32. The golden vector stays that of the float32 model.
    """
    facts = onnx_file.read_facts(data, "the exported model")
    info = onnx_file.info_of(facts, "the exported model")
    logger = logging.getLogger()
    before = logger.level
    with tempfile.TemporaryDirectory() as folder:
        plain, quantised = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        plain.write_bytes(data)
        logger.setLevel(logging.ERROR)  # it recommends a preparation that is for other graphs
        try:
            quantize_static(
                plain, quantised, _Recordings(recordings), quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"],
                per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            )
        finally:
            logger.setLevel(before)
        return seal(onnx.load(quantised), info, facts["onnx"] | {"precision": "int8"})
