"""enrol-speakers and identify-speaker as a user calls them, with a network of random weights."""

import importlib.metadata
import json

import numpy as np
import pytest
import soundfile
import torch

from speakerkit.cli import enrol_speakers, identify_speaker, verify_speakers
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.io.voiceprints import read_voiceprints
from speakerkit.models import model_file, networks


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = ModelConfig(base_channels=4, num_blocks=(1, 1, 1, 1), embedding_dim=16)
    fbank = FbankConfig(num_mel_bins=24)
    network = networks.make_network(config, fbank.num_columns)
    networks.initialise(network, torch.Generator().manual_seed(1))
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    model_file.save_model(path, network.eval(), model_file.ModelInfo(
        "small", config, fbank, threshold=0.5, domain="read speech", calibration={"scale": 10.0, "offset": -5.0}))
    return path


@pytest.fixture(scope="module")
def wavs(speech_files, tmp_path_factory):
    folder, paths = tmp_path_factory.mktemp("wavs"), []
    for number, recordings in enumerate(list(speech_files.values())[:3]):
        for turn, recording in enumerate(recordings[:2]):
            samples, rate = soundfile.read(recording, dtype="int16", frames=24000)
            paths.append(folder / f"p{number}-{turn}.wav")
            soundfile.write(paths[-1], samples, rate)
    return paths


@pytest.fixture
def enrol(model, capsys):
    def run(*words, code=0):
        assert enrol_speakers.main([*map(str, words), "--model", str(model), "--device", "cpu",
                                    "--precision", "float32"]) == code
        return capsys.readouterr()

    return run


@pytest.fixture
def identify(model, capsys):
    def run(*words, code=0):
        assert identify_speaker.main([*map(str, words), "--model", str(model), "--device", "cpu",
                                      "--precision", "float32"]) == code
        return capsys.readouterr()

    return run


def as_lines(text):
    return dict(line.split(" ", 1) for line in text.splitlines())


def test_enrol_identify_list_remove(enrol, identify, model, wavs, tmp_path, capsys):
    voices = tmp_path / "people.voices"
    assert "now enrolled: 1 recording of 1 speaker; 1 new speaker" in enrol("--speaker", "anna", wavs[0], voices).err
    assert "nearest of 1 speaker: 'anna'" in identify(wavs[0], voices).err
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "wav.scp").write_text(f"u1 {wavs[2]}\nu2 {wavs[4]}\n")
    (folder / "utt2spk").write_text("u1 ben\nu2 王\n")
    told = enrol(folder, voices, "--json", tmp_path / "j").err
    assert "now enrolled: 3 recordings of 3 speakers; 2 new speakers" in told
    report = json.loads((tmp_path / "j").read_text())
    assert (report["num_speakers"], report["num_recordings"], report["num_new_speakers"]) == (3, 3, 2)
    assert enrol("--list", voices).out == "anna 1 1.50\nben 1 1.50\n王 1 1.50\n"

    answer = identify(wavs[0], voices, "--json", tmp_path / "j")
    out, report = as_lines(answer.out), json.loads((tmp_path / "j").read_text())
    assert list(out) == ["nearest", "cosine", "similarity", "threshold", "decision", "llr", "domain", "match_2",
                         "match_3"]
    assert (out["nearest"], out["cosine"], out["decision"], out["llr"]) == ("anna", "1.000000", "same", "5.000")
    assert report["speaker"] == report["nearest"] == report["matches"][0][0] == "anna"
    assert "nearest of 3 speakers: 'anna'; probably the same speaker" in answer.err
    assert "among 3 voices a stranger's passes it about 3 times as often" in answer.err
    assert "not that a live person spoke" in answer.err

    options = ["--model", model, "--device", "cpu", "--precision", "float32"]
    assert verify_speakers.main([*map(str, (wavs[2], wavs[1], *options))]) == 0
    cosine = as_lines(capsys.readouterr().out)["cosine"]
    identify(wavs[1], voices, "--json", tmp_path / "j")
    assert cosine == f"{dict(json.loads((tmp_path / 'j').read_text())['matches'])['ben']:.6f}"

    enrol("--remove", "ben", "--remove", "anna", voices)
    assert read_voiceprints(voices).speakers == ("王",)
    told = enrol("--remove", "ben", "--remove", "王", voices, code=1).err
    assert told == f"enrol-speakers: {voices}: holds no speaker 'ben'\n"
    assert read_voiceprints(voices).speakers == ("王",)
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize("words, message", [
    (["--speaker", "a", "v"], "no recording of 'a'"),
    (["v"], "0 inputs; want one data directory, or --speaker and recordings"),
    (["a.wav", "b.wav", "v"], "2 inputs; want one data directory"),
    (["--list", "a.wav", "v"], "--list takes the voiceprint file alone"),
    (["--remove", "a", "a.wav", "v"], "--remove takes the voiceprint file alone"),
    (["--speaker", "a", "--list", "v"], "not allowed with argument --speaker"),
    (["--speaker", "a", "--allow-pipes", "touch x |", "v"], "--allow-pipes: what a shell pipe gives can't be enrolled"),
    ([], "the following arguments are required: people.voices"),
])
def test_command_line(enrol, words, message):
    assert message in enrol(*words, code=2).err


def test_bad_recordings_enrol_nobody(enrol, wavs, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "short.wav", np.zeros(1000), 16000)
    told = enrol("--speaker", "a", wavs[0], tmp_path / "short.wav", tmp_path / "nowhere.wav", f"touch {tmp_path}/ran |",
                 tmp_path / "v", "--json", tmp_path / "j", code=1).err.splitlines()
    assert len(told) == 3 and told[0].startswith(f"enrol-speakers: {tmp_path}/short.wav: too-short")
    assert f"{tmp_path}/nowhere.wav: missing" in told[1] and "pipe-refused" in told[2]
    assert json.loads((tmp_path / "j").read_text())["num_bad"] == 3
    told = enrol("--speaker", "a", wavs[0], tmp_path / "silent.wav", tmp_path / "v", code=1).err
    assert f"{tmp_path}/silent.wav: silent" in told
    assert not (tmp_path / "v").exists() and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("tables, message", [
    ({}, "wav.scp: no such file"),
    ({"wav.scp": "u1 a.wav\nu2 b.wav\n", "utt2spk": "u1 a\n"}, "wav.scp:2: 'u2' has no speaker in"),
    ({"wav.scp": "u1 a.wav\n", "utt2spk": "u1 a\nu2 a\n"}, "utt2spk:2: 'u2' has no recording in"),
    ({"wav.scp": "u1 a.wav\n", "utt2spk": "u1 a b\n"}, "utt2spk:1: 3 fields"),
    ({"wav.scp": "u1 a.wav\n", "utt2spk": "u1 a\n", "segments": ""}, "segments can't be enrolled; want whole"),
    ({"wav.scp": "u1 touch x |\n", "utt2spk": "u1 a\n"}, "pipe-refused"),
])
def test_data_directories(enrol, tmp_path, tables, message):
    folder = tmp_path / "data"
    folder.mkdir()
    for name, text in tables.items():
        (folder / name).write_text(text)
    assert message in enrol(folder, tmp_path / "v", code=1).err
    assert not (tmp_path / "v").exists()


def test_a_name_is_one_word(enrol, wavs, tmp_path):
    assert "--speaker: 'a b' holds U+0020" in enrol("--speaker", "a b", wavs[0], tmp_path / "v", code=1).err


def test_what_is_no_voiceprint_file(enrol, identify, wavs, tmp_path):
    assert "no such voiceprint file; enrol-speakers makes one" in identify(wavs[0], tmp_path / "v", code=1).err
    assert "no such voiceprint file" in enrol("--list", tmp_path / "v", code=1).err
    told = identify(wavs[0], wavs[1], code=1)
    assert told.err.startswith(f"identify-speaker: {wavs[1]}: is no voiceprint file") and told.out == ""
    told = identify(tmp_path / "nowhere.wav", tmp_path / "v", "--json", tmp_path / "j", code=1).err
    assert "nowhere.wav: missing" in told
    assert json.loads((tmp_path / "j").read_text())["bad_missing"] == 1
    assert enrol("--speaker", "a", wavs[0], tmp_path, code=75).err.endswith("is a folder\n")


def test_vad_of_both(enrol, identify, speech_files, tmp_path):
    """The speech of a recording is enrolled and searched for; where nobody speaks nothing is."""
    samples, rate = soundfile.read(next(iter(speech_files.values()))[0], dtype="float32")
    hiss = 1e-3 * np.random.default_rng(1).standard_normal(3 * rate).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", np.concatenate([hiss, samples, hiss]), rate, subtype="FLOAT")
    soundfile.write(tmp_path / "hiss.wav", hiss, rate, subtype="FLOAT")
    enrol("--vad", "--speaker", "anna", tmp_path / "a.wav", tmp_path / "v")
    assert read_voiceprints(tmp_path / "v").recordings[0].options["vad"].startswith("silero-vad ")
    said = identify("--vad", "--json", tmp_path / "out.json", tmp_path / "a.wav", tmp_path / "v").out
    assert as_lines(said)["nearest"] == "anna" and float(as_lines(said)["cosine"]) == pytest.approx(1.0)
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["vad"].startswith("silero-vad ")
    assert 0 < report["test_speech_seconds"] < len(samples) / rate + 3
    error = identify("--vad", tmp_path / "hiss.wav", tmp_path / "v", code=1).err
    assert "hiss.wav: no-speech: nobody speaks in 3.00 s" in error
    error = enrol("--vad", "--speaker", "ben", tmp_path / "hiss.wav", tmp_path / "w", code=1).err
    assert "hiss.wav: no-speech" in error and not (tmp_path / "w").exists()


def test_vad_without_its_package(enrol, identify, wavs, tmp_path, monkeypatch):
    enrol("--speaker", "anna", wavs[0], tmp_path / "v")

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    for said in (enrol("--vad", "--speaker", "ben", wavs[2], tmp_path / "v", code=2).err,
                 identify("--vad", wavs[0], tmp_path / "v", code=2).err):
        assert "--vad needs silero-vad, which isn't installed: pip install 'speakerkit[vad]'" in said
