"""The front end as an ONNX graph: samples -> features, the same numbers as ``compute_fbank``, either filterbank.

Scaling, DC removal, pre-emphasis, window and DFT are linear in the samples of a frame, so they are
one matrix, made in float64: frames times it costs no more than an FFT.

A batch is padded with NaN at the end of its shorter utterances: their lengths are seen from it, so
one input is enough. A NaN inside an utterance stays one and makes its embedding NaN.
"""

import math

import numpy as np
from onnx import TensorProto

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.features.framing import (
    EPSILON,
    RANGE_DB,
    SMALLEST_ENERGY,
    frame_window,
    mel_filters,
)
from speakerkit.features.graph_builder import GraphBuilder
from speakerkit.features.graph_names import FBANK, FEATURES, FRAMED, NUM_FRAMES, SAMPLES
from speakerkit.features.speechbrain_fbank import periodic_hamming, symmetric_filters

_TO_THE_END = np.iinfo(np.int64).max


def make_front_end(fbank: FbankConfig, model: ModelConfig) -> tuple[list, list]:
    """Nodes and constants from ``samples`` (batch, num_samples) to ``features`` and ``num_frames``.

    Raises:
        ValueError: dither, which a graph can't draw.
    """
    if fbank.dither > 0:
        raise ValueError(f"dither {fbank.dither} can't be drawn in a graph")
    graph = GraphBuilder("front_end")
    lengths, clean = _read_lengths(graph)
    if fbank.filterbank == "speechbrain":  # 1 + floor(n / shift), 0 without a sample
        half = fbank.frame_length // 2
        graph.add("Pad", clean, [0, half, 0, half], 0.0, output=FRAMED)
        reach = graph.add("Mul", graph.add("Add", lengths, fbank.frame_shift), graph.add("Min", lengths, 1))
    elif fbank.snip_edges:  # 1 + floor((n - length) / shift), 0 below one frame
        graph.add("Identity", clean, output=FRAMED)
        reach = graph.add("Max", graph.add("Add", lengths, fbank.frame_shift - fbank.frame_length), 0)
    else:
        _mirror_edges(graph, clean, lengths, fbank)
        reach = graph.add("Add", lengths, fbank.frame_shift // 2)
    graph.add("Div", reach, fbank.frame_shift, output=NUM_FRAMES)
    features = FBANK
    if fbank.filterbank == "speechbrain":
        _frames_to_decibels(graph, _cut_frames(graph, fbank), fbank)
        features = _cut_range(graph)
    else:
        _frames_to_fbank(graph, _cut_frames(graph, fbank), fbank)
    if model.mean_norm:
        _subtract_mean(graph, features)
    else:
        graph.add("Identity", features, output=FEATURES)
    return graph.nodes, graph.constants


def _read_lengths(graph: GraphBuilder) -> tuple[str, str]:
    """(batch,) samples up to the last that is no NaN, and the samples with zeros after them."""
    places = graph.add("Range", 1, graph.add("Add", graph.size(SAMPLES, 1), 1), 1)
    valid = graph.add("Not", graph.add("IsNaN", SAMPLES))
    lengths = graph.add("ReduceMax", graph.add("Where", valid, places, 0), [1], keepdims=0)
    inside = graph.add("LessOrEqual", places, graph.add("Unsqueeze", lengths, [1]))
    return lengths, graph.add("Where", inside, SAMPLES, 0.0)


def _mirror_edges(graph: GraphBuilder, clean: str, lengths: str, fbank: FbankConfig) -> None:
    """Without snip_edges: frames are centred on multiples of the shift; beyond either end lies the mirror image."""
    total = graph.add("Div", graph.add("Add", graph.size(clean, 1), fbank.frame_shift // 2), fbank.frame_shift)
    count = graph.add("Add", graph.add("Mul", total, fbank.frame_shift), fbank.frame_length - fbank.frame_shift)
    first = fbank.frame_shift // 2 - fbank.frame_length // 2
    places = graph.add("Add", graph.add("Range", 0, count, 1), first)
    length = graph.add("Unsqueeze", lengths, [1])
    period = graph.add("Mul", length, 2)
    at = graph.add("Mod", places, period)  # (batch, count); of the divisor's sign
    mirrored = graph.add("Sub", graph.add("Sub", period, 1), at)
    at = graph.add("Where", graph.add("Less", at, length), at, mirrored)
    graph.add("GatherElements", clean, at, axis=1, output=FRAMED)


def _cut_frames(graph: GraphBuilder, fbank: FbankConfig) -> str:
    """(batch, num_frames, pieces * shift): each frame with what follows it up to a whole number of shifts.

    The samples in pieces of one shift, and neighbours side by side: copies of whole rows, no gather.
    """
    shift, pieces = fbank.frame_shift, pieces_of(fbank)
    spare = graph.add("Sub", graph.size(FRAMED, 1), fbank.frame_length)
    wanted = graph.add("Mul", graph.add("Add", graph.add("Div", spare, shift), pieces), shift)
    padded = graph.add("Pad", FRAMED, [0, 0, 0, pieces * shift - fbank.frame_length], 0.0)
    cut = graph.add("Slice", padded, [0], graph.add("Unsqueeze", wanted, [0]), [1])
    rows = graph.add("Reshape", cut, [0, -1, shift])
    ends = [number - pieces + 1 or _TO_THE_END for number in range(pieces)]
    parts = [graph.add("Slice", rows, [number], [end], [1]) for number, end in enumerate(ends)]
    return parts[0] if pieces == 1 else graph.add("Concat", *parts, axis=2)


def pieces_of(fbank: FbankConfig) -> int:
    """Shifts that a frame spans, the last one perhaps in part."""
    return -(-fbank.frame_length // fbank.frame_shift)


def _power(graph: GraphBuilder, frames: str, windowed: np.ndarray, fbank: FbankConfig) -> str:
    """|DFT|^2 of frames that a matrix scales and windows, (batch, num_frames, fft_length / 2 + 1)."""
    spectrum = np.fft.rfft(windowed, n=fbank.fft_length, axis=1)
    real, imaginary = (graph.add("MatMul", frames, _padded(part, fbank)) for part in (spectrum.real, spectrum.imag))
    return graph.add("Add", graph.add("Mul", real, real), graph.add("Mul", imaginary, imaginary))


def _frames_to_decibels(graph: GraphBuilder, frames: str, fbank: FbankConfig) -> None:
    """SpeechBrain's filterbank, before its range is cut."""
    window = np.diag(fbank.waveform_scale * periodic_hamming(fbank.frame_length).double().numpy())
    mel = graph.add("MatMul", _power(graph, frames, window, fbank), symmetric_filters(fbank).numpy())
    natural = graph.add("Log", graph.add("Max", mel, SMALLEST_ENERGY))
    graph.add("Mul", natural, 10.0 / math.log(10.0), output=FBANK)


def _cut_range(graph: GraphBuilder) -> str:
    """Decibels no lower than RANGE_DB below the utterance's loudest."""
    valid = graph.add("Unsqueeze", _valid_frames(graph), [2])
    loudest = graph.add("ReduceMax", graph.add("Where", valid, FBANK, -np.inf), [1, 2], keepdims=1)
    return graph.add("Max", FBANK, graph.add("Sub", loudest, RANGE_DB))


def _frames_to_fbank(graph: GraphBuilder, frames: str, fbank: FbankConfig) -> None:
    power = _power(graph, frames, _windowed(fbank), fbank)
    mel = graph.add("MatMul", power if fbank.use_power else graph.add("Sqrt", power), mel_filters(fbank))
    if fbank.use_log_fbank:
        mel = graph.add("Log", graph.add("Max", mel, EPSILON))
    if not fbank.use_energy:
        graph.add("Identity", mel, output=FBANK)
        return
    energy = _log_energy(graph, frames, fbank)
    graph.add("Concat", *([mel, energy] if fbank.htk_compat else [energy, mel]), axis=2, output=FBANK)


def _log_energy(graph: GraphBuilder, frames: str, fbank: FbankConfig) -> str:
    matrix = _without_offset(fbank) if fbank.raw_energy else _windowed(fbank)
    scaled = graph.add("MatMul", frames, _padded(matrix, fbank))
    energy = graph.add("ReduceSum", graph.add("Mul", scaled, scaled), [2], keepdims=1)
    energy = graph.add("Log", graph.add("Max", energy, EPSILON))
    return graph.add("Max", energy, math.log(fbank.energy_floor)) if fbank.energy_floor > 0 else energy


def _without_offset(fbank: FbankConfig) -> np.ndarray:
    """(frame_length, frame_length) float64: a frame (as a row) times it is scaled, its DC removed."""
    length = fbank.frame_length
    return fbank.waveform_scale * (np.eye(length) - (1.0 / length if fbank.remove_dc_offset else 0.0))


def _windowed(fbank: FbankConfig) -> np.ndarray:
    """The same with pre-emphasis and the window."""
    matrix = _without_offset(fbank)
    previous = np.concatenate([matrix[:, :1], matrix[:, :-1]], axis=1)
    return (matrix - fbank.preemphasis * previous) * frame_window(fbank)


def _padded(matrix: np.ndarray, fbank: FbankConfig) -> np.ndarray:
    """Zero rows for the samples that follow a frame up to a whole number of shifts."""
    return np.pad(matrix, ((0, pieces_of(fbank) * fbank.frame_shift - fbank.frame_length), (0, 0)))


def _valid_frames(graph: GraphBuilder) -> str:
    """(batch, num_frames) bool: the frames of each utterance."""
    places = graph.add("Range", 0, graph.size(FBANK, 1), 1)
    return graph.add("Less", places, graph.add("Unsqueeze", NUM_FRAMES, [1]))


def _subtract_mean(graph: GraphBuilder, features: str) -> None:
    kept = graph.add("Where", graph.add("Unsqueeze", _valid_frames(graph), [2]), features, 0.0)
    count = graph.add("Unsqueeze", graph.add("Cast", NUM_FRAMES, to=TensorProto.FLOAT), [1, 2])
    mean = graph.add("Div", graph.add("ReduceSum", kept, [1], keepdims=1), count)
    graph.add("Sub", features, mean, output=FEATURES)
