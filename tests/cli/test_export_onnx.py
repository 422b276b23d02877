"""export-onnx as a user calls it, and its file as every command's --model, without torch."""

import json
import sys

import kaldiio
import numpy as np
import onnxruntime
import pytest
import soundfile

from speakerkit.cli import export_onnx
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.inference.backends import load_extractor
from speakerkit.models import model_file

WITHOUT_TORCH = """
import importlib, sys
name, *arguments = sys.argv[1:]
code = importlib.import_module(f"speakerkit.cli.{name}").main(arguments)
print("torch" if "torch" in sys.modules else "no torch", file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory, draw_network):
    config = ModelConfig(base_channels=4, num_blocks=(1, 1, 1, 1), embedding_dim=16)
    info = model_file.ModelInfo("small", config, FbankConfig(num_mel_bins=24), domain="rooms", threshold=0.25,
                                licence="CC BY 4.0")
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    model_file.save_model(path, draw_network(config, 24), info)
    return path


@pytest.fixture(scope="module")
def graph(model):
    path = model.with_name("small.onnx")
    assert export_onnx.main([str(model), str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def recordings(speech_files):
    return [paths[0] for paths in list(speech_files.values())[:3]]


@pytest.fixture
def run_without_torch(run_command):
    """``run("verify_speakers", *arguments)``: the ended command, after a look at what it imported."""

    def run(name, *arguments):
        ended = run_command(sys.executable, "-c", WITHOUT_TORCH, name, *arguments)
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr.splitlines()[-1] == "no torch"
        return ended

    return run


def test_plain_onnxruntime_gives_our_embedding(model, graph, recordings):
    session = onnxruntime.InferenceSession(graph)
    samples, _ = soundfile.read(recordings[0], dtype="float32")
    theirs = session.run(None, {"samples": samples[None]})[0][0]
    ours = load_extractor(model, "cpu", "float32", "torch").embed_samples(samples, 16000)
    np.testing.assert_allclose(theirs, ours, atol=1e-4 * np.abs(ours).max())


def test_a_second_run_has_nothing_to_do(graph, model, tmp_path, capsys):
    before = graph.read_bytes()
    assert export_onnx.main([str(model), str(graph), "--json", str(tmp_path / "j")]) == 0
    assert "nothing to do" in capsys.readouterr().err and graph.read_bytes() == before
    report = json.loads((tmp_path / "j").read_text())
    assert (report["precision"], report["sample_rate"], report["embedding_dim"]) == ("float32", 16000, 16)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_verify_speakers_without_torch(run_without_torch, graph, recordings, backend):
    ended = run_without_torch("verify_speakers", *recordings[:2], "--model", graph, "--backend", backend)
    assert ended.stdout.startswith("cosine ") and "decision " in ended.stdout


def test_a_safetensors_model_without_torch_once_it_is_exported(run_without_torch, model, recordings):
    load_extractor(model, "cpu", "float32", "onnx")
    run_without_torch("verify_speakers", *recordings[:2], "--model", model)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_extraction_without_torch(run_without_torch, graph, speech_wav_scp, tmp_path, backend):
    wav_scp = speech_wav_scp(tmp_path / "data", 2, 2)
    run_without_torch("extract_embeddings", wav_scp, tmp_path / "emb.ark", "--model", graph, "--nj", 2,
                      "--backend", backend, "--precision", "float32")
    embeddings = dict(kaldiio.load_ark(str(tmp_path / "emb.ark")))
    extractor = load_extractor(graph, "cpu", "float32", backend)
    for line in wav_scp.read_text().splitlines():
        utt_id, path = line.split()
        ours = extractor.embed_samples(*soundfile.read(path, dtype="float32"))
        np.testing.assert_allclose(embeddings[utt_id], ours, rtol=1e-5, atol=1e-5)


def test_model_info_without_torch(run_without_torch, graph, model):
    lines = run_without_torch("model_info", graph).stdout.splitlines()
    network = model_file.load_model(model).network
    assert f"num_parameters {sum(p.numel() for p in network.parameters())}" in lines
    assert {"kind ONNX model", "precision float32", "licence CC BY 4.0", "threshold 0.25"} <= set(lines)
    assert float(dict(line.split(" ", 1) for line in lines)["golden_cosine"]) > 0.99999


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_int8_is_near_and_says_so(model, graph, tmp_path, speech_wav_scp, recordings, backend):
    listed = speech_wav_scp(tmp_path / "data", 3, 2)
    quantised = tmp_path / "int8.onnx"
    code = export_onnx.main([str(model), str(quantised), "--quantise", "int8", "--calibration-list", str(listed)])
    assert code == 0
    half, whole = load_extractor(quantised, backend=backend), load_extractor(graph, "cpu", "float32", backend)
    assert half.precision_name == "int8"
    samples, rate = soundfile.read(recordings[2], dtype="float32")
    a, b = half.embed_samples(samples, rate), whole.embed_samples(samples, rate)
    assert not np.array_equal(a, b)
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.98


@pytest.mark.parametrize("arguments, code, message", [
    (["{graph}", "{new}"], 1, "small.onnx: is an ONNX file already; want a .safetensors model"),
    (["gone", "{new}"], 1, "gone: no such model"),
    (["{model}", "{new}", "--quantise", "int8"], 2, "--quantise and --calibration-list go together"),
    (["{model}", "{new}", "--quantise", "int4"], 2, "invalid choice: 'int4'"),
    (["{model}", "{graph}", "--quantise", "int8", "--calibration-list", "{list}"], 2, "--overwrite"),
    (["{model}", "{new}", "--quantise", "int8", "--calibration-list", "{bad}"], 1, "missing"),
    (["{model}", "{model}", "--overwrite"], 2, "is one of the inputs"),
])
def test_refusals(model, graph, tmp_path, recordings, capsys, arguments, code, message):
    (tmp_path / "list").write_text(f"a {recordings[0]}\n")
    (tmp_path / "bad").write_text("a /nowhere/a.wav\n")
    places = {"model": model, "graph": graph, "new": tmp_path / "new.onnx", "list": tmp_path / "list",
              "bad": tmp_path / "bad"}
    before = graph.read_bytes()
    try:
        ended = export_onnx.main([word.format(**places) for word in arguments])
    except SystemExit as error:  # argparse's own
        ended = error.code
    assert ended == code and message in capsys.readouterr().err
    assert graph.read_bytes() == before and not (tmp_path / "new.onnx").exists()


def test_without_its_package_it_is_refused(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert export_onnx.main([str(model), str(tmp_path / "new.onnx")]) == 2
    assert "onnx isn't installed; want it for this export: pip install 'speakerkit[export]'" in capsys.readouterr().err
