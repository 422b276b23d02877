"""The front end as a graph: compute_fbank's numbers for every option, by onnxruntime."""

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from onnx import TensorProto, helper

from speakerkit.config import SPEECHBRAIN_FBANK, FbankConfig, ModelConfig
from speakerkit.features.fbank import compute_fbank
from speakerkit.features.fbank_graph import make_front_end
from speakerkit.features.mean_norm import subtract_mean

OPTIONS = [
    {},
    {"snip_edges": False},
    {"window_type": "hamming", "waveform_scale": 1.0, "num_mel_bins": 40},
    {"use_energy": True, "energy_floor": 1.0},
    {"use_energy": True, "raw_energy": False, "htk_compat": True, "remove_dc_offset": False},
    {"use_power": False, "preemphasis": 0.0},
    {"use_log_fbank": False, "waveform_scale": 1.0, "window_type": "blackman"},
    {"round_to_power_of_two": False, "frame_length_ms": 20.0},
    {"sample_rate": 8000, "frame_shift_ms": 12.5, "high_freq": -200.0},
    {"frame_length_ms": 10.0, "frame_shift_ms": 15.0, "num_mel_bins": 23},
    {"frame_length_ms": 10.0, "frame_shift_ms": 15.0, "num_mel_bins": 23, "snip_edges": False},
    {"filterbank": "speechbrain", **SPEECHBRAIN_FBANK, "waveform_scale": 1.0},
    {"filterbank": "speechbrain", **SPEECHBRAIN_FBANK, "frame_length_ms": 20.0, "num_mel_bins": 60},
]


def make_session(fbank, mean_norm=True):
    nodes, constants = make_front_end(fbank, ModelConfig(mean_norm=mean_norm))
    outputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", "t", "c"]),
               helper.make_tensor_value_info("num_frames", TensorProto.INT64, ["b"])]
    given = [helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["b", "n"])]
    graph = helper.make_graph(nodes, "front_end", given, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(made.SerializeToString(), options)


@pytest.fixture(scope="module")
def speech(speech_files):
    return [soundfile.read(paths[0], dtype="float32", frames=40000 + 111 * n)[0]
            for n, paths in enumerate(list(speech_files.values())[:3])]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options) or "default")
def test_it_is_compute_fbank(speech, options):
    config = FbankConfig(**options)
    session = make_session(config, mean_norm=False)
    for samples in [*speech, speech[0][5000 : 5000 + config.frame_length]]:
        ours, count = session.run(None, {"samples": samples[None]})
        plain = compute_fbank(torch.from_numpy(samples), config).numpy()
        assert ours.shape[1:] == plain.shape and count.tolist() == [len(plain)]
        error = np.abs(ours[0] - plain)
        # One product for the DFT rounds otherwise than an FFT: near-silent bins differ most, as between FFTs.
        scale = max(1.0, plain.max() / 20)  # energies as they are, not their logarithms, are large numbers
        assert error.max() < 0.05 * scale and error.mean() < 1e-4 * scale


@pytest.mark.parametrize("options", [{}, {"snip_edges": False}, {"filterbank": "speechbrain", **SPEECHBRAIN_FBANK}],
                         ids=["snip", "mirrored", "speechbrain"])
def test_a_padded_batch_has_each_ones_mean_removed(speech, options):
    config = FbankConfig(**options)
    batch = np.full((3, 41000), np.nan, np.float32)
    for row, samples in zip(batch, speech, strict=True):
        row[: len(samples)] = samples
    features, counts = make_session(config).run(None, {"samples": batch})
    for frames, count, samples in zip(features, counts, speech, strict=True):
        plain = subtract_mean(compute_fbank(torch.from_numpy(samples), config)).numpy()
        assert count == len(plain)
        np.testing.assert_allclose(frames[:count], plain, atol=0.05)


def test_dither_is_refused():
    with pytest.raises(ValueError, match="dither 1.0 can't be drawn in a graph"):
        make_front_end(FbankConfig(dither=1.0), ModelConfig())
