"""--vad of verify-speakers and eval-eer; that of extract-embeddings is tested in tests/jobs/test_extraction.py."""

import json

import numpy as np
import pytest
import soundfile
import torch

from speakerkit.cli import eval_eer, verify_speakers
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.inference.backends import load_extractor
from speakerkit.inference.speech_detector import load_detector
from speakerkit.models import model_file
from speakerkit.models.networks import initialise, make_network
from speakerkit.scoring.cosine import cosine_score


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = ModelConfig(embedding_dim=16, base_channels=4, num_blocks=(1, 1, 1, 1))
    network = make_network(config, 40)
    initialise(network, torch.Generator().manual_seed(1))
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    model_file.save_model(path, network.eval(), model_file.ModelInfo("small", config, FbankConfig(num_mel_bins=40)))
    return path


@pytest.fixture(scope="module")
def paths(tmp_path_factory, speech_files):
    """Two recordings of speech between pauses, and one of noise."""
    folder, generator = tmp_path_factory.mktemp("audio"), np.random.default_rng(1)
    pause = generator.standard_normal(24000).astype(np.float32) * 1e-4
    found = {"noise": folder / "noise.wav"}
    soundfile.write(found["noise"], 0.05 * generator.standard_normal(24000), 16000)
    for number, recordings in enumerate(list(speech_files.values())[:2]):
        found[number] = folder / f"{number}.wav"
        samples = np.concatenate([pause, soundfile.read(recordings[0], dtype="float32")[0], pause])
        soundfile.write(found[number], samples, 16000, subtype="PCM_16")
    return found


@pytest.fixture
def wanted(model, paths):
    """The cosine of the two recordings' speech."""
    extractor, detector = load_extractor(model, "cpu", "float32"), load_detector()
    speech = [detector.keep_speech(soundfile.read(paths[number], dtype="float32")[0], 16000) for number in (0, 1)]
    return cosine_score(*[extractor.embed_samples(samples, 16000) for samples in speech])


def run(command, *arguments):
    return command.main([*map(str, arguments), "--precision", "float32", "--device", "cpu"])


def test_verify_speakers(model, paths, wanted, tmp_path):
    assert run(verify_speakers, paths[0], paths[1], "--vad", "--model", model, "--json", tmp_path / "j") == 0
    report = json.loads((tmp_path / "j").read_text())
    assert report["cosine"] == pytest.approx(wanted, abs=1e-5)
    assert report["vad"] == load_detector().name
    assert report["test_speech_seconds"] < report["test_seconds"] - 2.5
    assert report["enrol_speech_seconds"][0] < report["enrol_seconds"][0] - 2.5


def test_verify_speakers_never_scores_what_is_no_speech(model, paths, tmp_path, capsys):
    options = ["--vad", "--model", model, "--json", tmp_path / "j"]
    assert run(verify_speakers, paths["noise"], paths["noise"], *options) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count(f"verify-speakers: {paths['noise']}: no-speech: nobody speaks in 1.50 s (silero-vad") == 2
    report = json.loads((tmp_path / "j").read_text())
    assert report["bad_no_speech"] == 2 and "cosine" not in report


def test_eval_eer(model, paths, wanted, tmp_path, capsys):
    for name, path in (("enroll/a", paths[0]), ("test/b", paths[1]), ("test/noise", paths["noise"])):
        (tmp_path / "eval" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "eval" / f"{name}.wav").write_bytes(path.read_bytes())
    (tmp_path / "eval/lists").mkdir()
    (tmp_path / "eval/lists/trials.lst.speech").write_text("a b target\na b target\na noise nontarget\n")
    options = [tmp_path / "eval", "--model", model, "--nj", 1, "--output-dir", tmp_path / "out"]
    assert run(eval_eer, *options, "--vad") == 1
    assert "first 'noise'" in (err := capsys.readouterr().err) and "no-speech" in err
    (tmp_path / "eval/test/noise.wav").write_bytes(paths[1].read_bytes())
    assert run(eval_eer, *options, "--vad") == 0
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert result["protocol"]["vad"] == load_detector().name
    assert 0 < result["speech_seconds"] < result["audio_seconds"] - 2.5 * 3
    scores = [float(line.split()[2]) for line in (tmp_path / "out/scores").read_text().splitlines()]
    assert scores == pytest.approx([wanted] * 3, abs=1e-5)
    capsys.readouterr()
    assert run(eval_eer, *options) == 2
    assert "made with vad" in capsys.readouterr().err


@pytest.mark.parametrize("command, arguments", [
    (verify_speakers, ["a.wav", "b.wav"]),
    (eval_eer, ["nowhere.tar.gz"]),
])
def test_not_installed(command, arguments, paths, monkeypatch, capsys):
    monkeypatch.setattr("speakerkit.inference.speech_detector.PACKAGE", "no-such-package")
    monkeypatch.chdir(paths[0].parent)
    arguments = [str(paths[0])] * 2 if command is verify_speakers else arguments
    assert run(command, *arguments, "--vad") == 2
    told = "--vad needs no-such-package, which isn't installed: pip install 'speakerkit[vad]'"
    assert told in capsys.readouterr().err
