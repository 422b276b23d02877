"""Every other architecture than the ResNets as a graph: torch, plain onnxruntime and OpenVINO give one embedding."""

import numpy as np
import onnxruntime
import pytest
import soundfile

from speakerkit.config import SPEECHBRAIN_FBANK, FbankConfig, ModelConfig
from speakerkit.features.graph_names import FEATURES, FRAME_OUTPUTS, NUM_FRAMES
from speakerkit.inference import backends, onnx_export, openvino_runner
from speakerkit.inference.loading import start_extractor
from speakerkit.models import model_file

SMALL = {"base_channels": 8, "num_blocks": (1, 1, 1, 1), "embedding_dim": 16}
THIN = SMALL | {"base_channels": 16, "num_blocks": (2,), "pooled_channels": 24}
KINDS = {
    "ecapa": ModelConfig(**THIN, architecture="ecapa"),
    "ecapa without context": ModelConfig(**THIN, architecture="ecapa", global_context=False),
    "ecapa_speechbrain": ModelConfig(**THIN, architecture="ecapa_speechbrain", std_floor=1e-12),
    "campplus": ModelConfig(**(SMALL | {"num_blocks": (2, 1, 1)}), architecture="campplus", std_floor=0.0),
    "eres2net": ModelConfig(**SMALL, architecture="eres2net", std_floor=1e-8),
    "eres2net two layers": ModelConfig(**SMALL, architecture="eres2net", two_embedding_layers=True),
    "res2net": ModelConfig(**SMALL, architecture="res2net"),
    "eres2net_huge": ModelConfig(**SMALL, architecture="eres2net_huge", std_floor=1e-8),
    "eres2netv2": ModelConfig(**SMALL, architecture="eres2netv2", std_floor=1e-8),
    "eres2netv2_w24s4ep4": ModelConfig(**SMALL, architecture="eres2netv2_w24s4ep4", std_floor=1e-8),
    "ecapa_norm": ModelConfig(**THIN, architecture="ecapa", embedding_norm=True),
    "attention": ModelConfig(**SMALL, pooling="attention"),
    "mean": ModelConfig(**SMALL, pooling="mean", two_embedding_layers=True),
    "deviation": ModelConfig(**SMALL, architecture="resnet50", pooling="deviation"),
    "res2net attention": ModelConfig(**SMALL, architecture="res2net", pooling="attention"),
    "simam": ModelConfig(**SMALL, architecture="simam_resnet34", std_floor=1e-5),
    "resnet_speechbrain": ModelConfig(**SMALL, architecture="resnet_speechbrain", std_floor=1e-5),
}
BINS = 24
LENGTHS = (4800, 16000, 65600, 192000)  # 0.3 s, 1 s, 4.1 s, 12 s


@pytest.fixture(scope="module")
def speech(speech_files):
    """Real speech of each length, from as many speakers."""
    found = []
    for count, paths in zip(LENGTHS, speech_files.values(), strict=False):
        whole = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in paths])
        found.append(np.resize(whole, count))
    return found


@pytest.fixture(scope="module", params=KINDS)
def exported(request, tmp_path_factory, draw_network):
    """A model's .safetensors and .onnx; SpeechBrain's have SpeechBrain's features."""
    config, folder = KINDS[request.param], tmp_path_factory.mktemp("exported")
    theirs = SPEECHBRAIN_FBANK | {"filterbank": "speechbrain", "waveform_scale": 1.0}
    fbank = FbankConfig(num_mel_bins=BINS, **(theirs if "speechbrain" in request.param else {}))
    path = folder / "m.safetensors"
    model_file.save_model(path, draw_network(config, BINS), model_file.ModelInfo("m", config, fbank))
    path.with_suffix(".onnx").write_bytes(onnx_export.to_onnx(model_file.load_model(path))[0])
    return path


def test_torch_onnxruntime_and_openvino_agree(exported, speech, plain_embedding, cosine):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(exported.with_suffix(".onnx"), options)
    openvino = start_extractor(
        backends.choose_backend(exported.with_suffix(".onnx"), "cpu", "float32", "openvino"))
    for samples in [*speech, speech[2][9000:9400], speech[2][20000:21999]]:  # one frame, some ten
        plain = plain_embedding(exported, samples)
        for ours in (session.run(None, {"samples": samples[None]})[0][0], openvino.runner.embed(samples)):
            assert cosine(ours, plain) >= 0.999999, len(samples)
            np.testing.assert_allclose(ours, plain, atol=5e-4 * np.abs(plain).max())
    batch = np.full((len(speech), max(LENGTHS) + 555), np.nan, np.float32)
    for row, samples in zip(batch, speech, strict=True):
        row[: len(samples)] = samples
    for ours, samples in zip(session.run(None, {"samples": batch})[0], speech, strict=True):
        assert cosine(ours, session.run(None, {"samples": samples[None]})[0][0]) >= 0.999999


def test_bfloat16_keeps_statistics_and_attention_exact(exported, speech, plain_embedding, cosine):
    """What follows the convolutions stays float32 under OpenVINO, as it does under torch."""
    choice = backends.choose_backend(exported.with_suffix(".onnx"), "cpu", "bfloat16", "openvino")
    extractor = start_extractor(choice)  # whose golden vector is met
    assert (extractor.runner.rest is None) == extractor.runner.in_parts  # then pooling lies between two parts
    assert cosine(extractor.runner.embed(speech[2]), plain_embedding(exported, speech[2])) >= 0.999


@pytest.mark.parametrize("exported", ["eres2net", "eres2netv2", "res2net", "deviation"], indirect=True)
def test_without_masks_it_is_the_masked_network_of_a_padded_utterance(exported):
    choice = backends.choose_backend(exported.with_suffix(".onnx"), "cpu", "float32", "openvino")
    runner, core = start_extractor(choice).runner, openvino_runner.openvino.Core()
    inputs = {FEATURES: [1, -1, BINS], NUM_FRAMES: [1]}
    masked = openvino_runner.cut(core.read_model(exported.with_suffix(".onnx")), FRAME_OUTPUTS, inputs)
    compiled = core.compile_model(masked, "CPU", openvino_runner.SETTINGS | {openvino_runner.PRECISION: "f32"})
    for frames in (1, 8, 203):
        padded = np.random.default_rng(frames).standard_normal((1, 224, BINS)).astype(np.float32)
        slow = openvino_runner.run(compiled, padded, np.array([frames]))[0, :, : -(-frames // 8)]
        ours = runner.frame_outputs(padded[0, :frames])
        assert ours.shape == slow.shape
        np.testing.assert_allclose(ours, slow, atol=1e-5 * np.abs(slow).max())
    kinds = [{op.get_type_name() for op in model.get_ops()}
             for model in (masked.clone(), openvino_runner.without_masks(masked))]
    assert ["Less" in found for found in kinds] == [True, False]


def test_the_file_says_what_the_model_says(exported):
    assert model_file.read_info(exported.with_suffix(".onnx")) == model_file.read_info(exported)
