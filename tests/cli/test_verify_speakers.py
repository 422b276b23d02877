"""verify-speakers as a user calls it, with a network of random weights: the answer's form, not its quality."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from speakerkit.cli import verify_speakers
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import RecordingError
from speakerkit.features.resample import resample
from speakerkit.inference.backends import load_extractor
from speakerkit.io.audio import load_audio
from speakerkit.jobs import verification
from speakerkit.models import model_file
from speakerkit.models.find import bundled_names
from speakerkit.models.networks import initialise, make_network
from speakerkit.models.published.catalogue import RECOMMENDED, look_up
from speakerkit.scoring.cosine import cosine_score


@pytest.fixture(scope="module")
def write_model(tmp_path_factory):
    config = ModelConfig(embedding_dim=16, base_channels=4, num_blocks=(1, 1, 1, 1))
    network = make_network(config, 40)
    initialise(network, torch.Generator().manual_seed(1))
    folder = tmp_path_factory.mktemp("models")

    def write(threshold):
        info = model_file.ModelInfo(
            name="small", model=config, fbank=FbankConfig(num_mel_bins=40), threshold=threshold,
            training_data="" if threshold is None else "three talkers in a room", domain="read speech",
            threshold_trials="" if threshold is None else "10 trials of those talkers")
        path = folder / f"{threshold}.safetensors"
        model_file.save_model(path, network.eval(), info)
        return path

    return write


@pytest.fixture(scope="module")
def recordings(speech_files):
    return [paths[0] for paths in list(speech_files.values())[:3]]


def verify(*arguments, code=0):
    assert verify_speakers.main([*map(str, arguments), "--precision", "float32", "--device", "cpu"]) == code


def as_lines(text):
    return dict(line.split(" ", 1) for line in text.splitlines())


@pytest.mark.parametrize("threshold, decision", [(-0.99, "same"), (0.99999999, "different")])
def test_answer(write_model, recordings, tmp_path, capsys, threshold, decision):
    model, report_path = write_model(threshold), tmp_path / "report.json"
    verify(*recordings[:2], "--model", model, "--json", report_path)
    captured = capsys.readouterr()
    out, report = as_lines(captured.out), json.loads(report_path.read_text())
    assert list(out) == ["cosine", "similarity", "threshold", "decision", "domain"]
    assert out["decision"] == report["decision"] == decision
    assert float(out["cosine"]) == pytest.approx(report["cosine"], abs=1e-6)
    assert float(out["similarity"]) == pytest.approx(
        max(report["cosine"] - threshold, 0) / (1 - threshold) * 100, abs=0.01)
    assert report["threshold"] == threshold
    assert report["domain"] == out["domain"] == "read speech"
    assert report["training_data"] == "three talkers in a room"
    assert (report["status"], report["exit_code"], report["precision"]) == ("ok", 0, "float32")
    assert report["sha256"] == model_file.sha256_of(model)
    assert f"verify-speakers: {report['words']}\n" in captured.err and "the cosine is" in report["words"]
    for words in ("trained on: three talkers in a room; it is for: read speech",
                  "its threshold comes from: 10 trials of those talkers",
                  "it holds for speech of that kind", "not that a live person spoke"):
        assert words in captured.err


def test_the_bundled_model_points_to_the_one_for_real_use(write_model, recordings, capsys):
    assert look_up(RECOMMENDED).licence == "Apache-2.0"
    verify(*recordings[:2], "--backend", "torch", "--model", bundled_names()[0])
    assert f"for real use take --model {RECOMMENDED} (200,000 speakers, Apache-2.0)" in capsys.readouterr().err
    verify(*recordings[:2], "--model", write_model(0.5))
    assert "for real use" not in capsys.readouterr().err


def test_model_without_a_threshold_gives_the_cosine_alone(write_model, recordings, tmp_path, capsys):
    verify(*recordings[:2], "--model", write_model(None), "--json", tmp_path / "j")
    captured = capsys.readouterr()
    assert list(as_lines(captured.out)) == ["cosine", "domain"]
    assert "the model has no threshold, so there is a cosine but no decision" in captured.err
    report = json.loads((tmp_path / "j").read_text())
    assert report["similarity"] is report["threshold"] is report["decision"] is None


def test_enrolment_is_the_plain_mean(write_model, recordings, tmp_path):
    model = write_model(0.5)
    verify(recordings[2], "--enrol", *recordings[:2], "--model", model, "--json", tmp_path / "j", "--quiet")
    extractor = load_extractor(model, "cpu", "float32")
    embeddings = [extractor.embed_samples(*load_audio(path)) for path in recordings]
    report = json.loads((tmp_path / "j").read_text())
    assert report["cosine"] == pytest.approx(cosine_score(embeddings[2], (embeddings[0] + embeddings[1]) / 2), abs=1e-6)
    assert report["test"] == str(recordings[2])
    assert report["enrol"] == [str(path) for path in recordings[:2]]
    assert len(report["enrol_seconds"]) == 2


def test_quiet_leaves_warnings(write_model, recordings, tmp_path, capsys):
    samples, rate = soundfile.read(recordings[0], dtype="float32")
    middle = len(samples) // 2
    short = tmp_path / "short.wav"
    soundfile.write(short, samples[middle - rate // 4:middle + rate // 4], rate)
    low = tmp_path / "low.wav"
    soundfile.write(low, samples[::2], rate // 2)
    verify(short, "--enrol", short, low, "--model", write_model(0.5), "--quiet")
    told = capsys.readouterr().err
    assert f"warning: {short} (0.50 s): shorter than 1 s" in told
    assert f"warning: {low}: 8000 Hz, the model hears 16000 Hz: above 4000 Hz there is nothing" in told
    assert f"warning: {short} and {short} hold the same samples" in told
    assert "trained on" not in told


def spoil(samples, rate, kind):
    """A recording of speech made worse in one way."""
    noise = np.random.default_rng(1).standard_normal(len(samples)).astype(np.float32)
    if kind == "noisy":
        return samples + 2 * samples.std() * noise
    if kind == "clipped":
        return np.clip(samples * 20, -samples.std(), samples.std())
    if kind == "quiet":
        return samples / np.abs(samples).max() * 0.003
    if kind == "narrow-band":
        return resample(resample(samples, rate, 8000), 8000, rate)
    return np.concatenate([samples, np.zeros(6 * len(samples), np.float32)])  # digital silence


@pytest.mark.parametrize("kind, words", [
    ("noisy", "SNR below 15 dB"), ("clipped", "more than 1% of the samples are clipped"),
    ("quiet", "speech below -50 dBFS"), ("narrow-band", "nothing above 5500 Hz or lower"),
    ("padded", "more than 50% of it is digital silence"),
])
def test_what_ruins_embeddings_is_a_warning(write_model, recordings, tmp_path, capsys, kind, words):
    samples, rate = soundfile.read(recordings[0], dtype="float32")
    soundfile.write(tmp_path / "bad.wav", spoil(samples, rate, kind), rate, subtype="FLOAT")
    verify(recordings[1], tmp_path / "bad.wav", "--model", write_model(0.5), "--quiet")
    assert f"warning: {tmp_path}/bad.wav: {words}" in capsys.readouterr().err


def write_bad(folder, kind):
    path, rng = folder / f"{kind}.wav", np.random.default_rng(1)
    noise = 0.1 * rng.standard_normal(16000)
    if kind == "silent":
        soundfile.write(path, np.zeros(16000), 16000)
    elif kind == "too-short":
        soundfile.write(path, noise[:1000], 16000)
    elif kind == "channel-not-chosen":
        soundfile.write(path, np.stack([noise, noise], axis=1), 16000)
    elif kind == "not-finite":
        noise[5000] = np.nan
        soundfile.write(path, noise, 16000, subtype="FLOAT")
    elif kind == "truncated":
        soundfile.write(path, noise, 16000)
        path.write_bytes(path.read_bytes()[:20000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "unsupported-format":
        path.write_text("<html>not found</html>" * 10)
    elif kind == "not-a-file":
        path.mkdir()
    elif kind == "pipe-refused":
        return f"touch {folder / 'ran'} |"
    return str(path)


@pytest.mark.parametrize("kind", ["missing", "silent", "too-short", "channel-not-chosen", "not-finite", "truncated",
                                  "empty", "unsupported-format", "not-a-file", "pipe-refused"])
def test_bad_recordings_are_one_line_and_never_a_number(recordings, tmp_path, capsys, kind):
    path = write_bad(tmp_path, kind)
    verify(recordings[0], path, "--model", "never-looked-for", "--json", tmp_path / "j", code=1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"verify-speakers: {path}: {kind}")
    assert captured.err.count("\n") == 1
    report = json.loads((tmp_path / "j").read_text())
    assert report["num_bad"] == report[f"bad_{kind.replace('-', '_')}"] == 1
    assert "cosine" not in report
    assert not (tmp_path / "ran").exists()


def test_every_bad_recording_is_told(recordings, tmp_path, capsys):
    verify(write_bad(tmp_path, "silent"), "--enrol", recordings[0], write_bad(tmp_path, "missing"), code=1)
    told = capsys.readouterr().err.splitlines()
    assert ["silent" in told[0], "missing" in told[1], len(told)] == [True, True, 2]


def test_an_unusable_embedding_names_its_recording(recordings, monkeypatch, capsys):
    def fail(samples, rate):
        raise RecordingError("samples", "nan-embedding", "the network gave values that aren't finite")

    info = SimpleNamespace(name="x", training_data="", domain="", threshold=0.5, threshold_trials="",
                           calibration=None, fbank=FbankConfig())
    extractor = SimpleNamespace(info=info, sha256="0" * 64, precision_name="float32", embed_samples=fail,
                                path="model", device="cpu", backend="torch")
    monkeypatch.setattr(verification, "load_extractor", lambda options: extractor)
    verify(*recordings[:2], code=1)
    captured = capsys.readouterr()
    assert captured.err == (f"verify-speakers: {recordings[1]}: nan-embedding: "
                            "the network gave values that aren't finite\n")
    assert captured.out == ""


def test_impossible_threshold(write_model, recordings, capsys):
    verify(*recordings[:2], "--model", write_model(1.0), code=1)
    captured = capsys.readouterr()
    assert "threshold is 1.0; want a cosine between -1 and 1" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("arguments, message", [
    (["a.wav"], "1 recordings; want two, or one and --enrol"),
    (["a.wav", "b.wav", "c.wav"], "3 recordings; want two"),
    (["a.wav", "b.wav", "--enrol", "c.wav"], "2 recordings before --enrol; want one"),
    ([], "the following arguments are required: RECORDING"),
    (["a.wav", "--enrol"], "--enrol: expected at least one argument"),
    (["-", "-"], "standard input (-) can be one recording only"),
])
def test_command_line(arguments, message, capsys):
    assert verify_speakers.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_installed_command_reads_standard_input(run_command, write_model, recordings):
    with open(recordings[0], "rb") as stream:
        result = run_command("verify-speakers", "-", recordings[0], "--model", write_model(0.5), stdin=stream)
    assert result.returncode == 0, result.stderr
    assert as_lines(result.stdout)["cosine"] == "1.000000"
    assert as_lines(result.stdout)["similarity"] == "100.00"


def test_bad_recordings_are_told_without_torch(run_command, tmp_path):
    code = ("import sys; from speakerkit.cli import verify_speakers\n"
            "code = verify_speakers.main(['nowhere.wav', 'neither.wav'])\n"
            "sys.exit(code if 'torch' not in sys.modules else 99)")
    result = run_command(Path("python"), "-c", code, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("missing: no such file") == 2
