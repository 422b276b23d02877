"""Long recordings verified, enrolled and identified: in blocks, by the embedding that extract-embeddings writes."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import speakerkit
from speakerkit import api
from speakerkit.cli import enrol_speakers, extract_embeddings, identify_speaker, verify_speakers
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import RecordingError
from speakerkit.inference.speech_detector import load_detector
from speakerkit.io import ark, recordings
from speakerkit.io.recordings import LongRecording, Recording, load_or_stream, load_recording
from speakerkit.io.voiceprints import read_voiceprints
from speakerkit.jobs import utterance_embedding
from speakerkit.models import model_file
from speakerkit.scoring.cosine import cosine_score

SMALL = {"base_channels": 4, "num_blocks": (1, 1, 1, 1), "embedding_dim": 16}


@pytest.fixture(scope="module")
def models(tmp_path_factory, draw_network):
    """A model that runs in parts, and CAM++, which doesn't."""
    folder, fbank = tmp_path_factory.mktemp("models"), FbankConfig(num_mel_bins=24)
    configs = {"resnet34": ModelConfig(**SMALL),
               "campplus": ModelConfig(architecture="campplus", base_channels=4, num_blocks=(1, 1, 1),
                                       embedding_dim=16)}
    for name, config in configs.items():
        info = model_file.ModelInfo(name, config, fbank, threshold=0.5)
        model_file.save_model(folder / f"{name}.safetensors", draw_network(config, 24), info)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory, speech_files):
    """61 s and more of two speakers, the second at 22.05 kHz."""
    folder = tmp_path_factory.mktemp("two")
    for number, (rate, paths) in enumerate(zip((16000, 22050), speech_files.values(), strict=False)):
        samples = np.concatenate([soundfile.read(path, dtype="int16")[0] for path in paths])
        soundfile.write(folder / f"{number}.flac", np.resize(samples, (61 + number) * rate), rate)
    return [str(folder / "0.flac"), str(folder / "1.flac")]


@pytest.fixture(scope="module")
def options(models):
    return ["--model", str(models / "resnet34.safetensors"), "--backend", "torch", "--precision", "float32", "--quiet"]


@pytest.fixture(scope="module")
def extracted(two, options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("extracted")
    (folder / "wav.scp").write_text("".join(f"{number} {path}\n" for number, path in enumerate(two)))
    assert extract_embeddings.main([str(folder / "wav.scp"), str(folder / "emb.ark"), "--nj", "1", *options]) == 0
    return list(ark.read_vectors(folder / "emb.ark").values())


@pytest.fixture
def never_whole(monkeypatch):
    monkeypatch.setattr(recordings, "load_recording", lambda *_: pytest.fail("loaded as a whole"))
    monkeypatch.setattr(LongRecording, "load", lambda *_: pytest.fail("loaded as a whole"))


def test_by_command(two, options, extracted, tmp_path, never_whole, capsys):
    assert verify_speakers.main([*two, *options]) == 0
    cosine = cosine_score(*extracted)
    assert capsys.readouterr().out.startswith(f"cosine {cosine:.6f}\n")
    voices = tmp_path / "people.voices"
    assert enrol_speakers.main(["--speaker", "anna", two[0], str(voices), *options]) == 0
    assert read_voiceprints(voices).embeddings[0].tobytes() == extracted[0].tobytes()
    capsys.readouterr()
    assert identify_speaker.main([two[1], str(voices), *options]) == 0
    assert f"{cosine:.6f}" in capsys.readouterr().out


def test_by_python(models, two, extracted, tmp_path, never_whole):
    model = speakerkit.load_model(models / "resnet34.safetensors", "cpu", "float32", backend="torch")
    answer = model.verify(two[0], io.BytesIO(Path(two[1]).read_bytes()))
    assert answer.cosine == cosine_score(*extracted)
    voices = model.enrol(tmp_path / "people.voices", {"anna": two[0], "ben": two[1]}, nj=2)
    assert [e.tobytes() for e in voices.file.embeddings] == [e.tobytes() for e in extracted]
    assert model.identify(voices, two[1]).matches[0].speaker == "ben"
    warnings = model.verify(two[0], two[0]).warnings
    assert any("hold the same samples" in warning for warning in warnings)


@pytest.fixture(scope="module")
def spoken(two, tmp_path_factory):
    """The two with pauses of noise; of the first more than a minute of speech is left, of the second less."""
    folder, noise = tmp_path_factory.mktemp("spoken"), np.random.default_rng(1)
    for number, (path, seconds) in enumerate(zip(two, (120, 30), strict=True)):
        samples, rate = soundfile.read(path, dtype="float32")
        samples = np.concatenate([samples, samples])
        parts = [samples[:seconds * rate // 2], samples[seconds * rate // 2:seconds * rate]]
        pause = (1e-4 * noise.standard_normal(20 * rate)).astype(np.float32)
        soundfile.write(folder / f"{number}.flac", np.concatenate([pause, parts[0], pause, parts[1]]), rate)
    return [str(folder / "0.flac"), str(folder / "1.flac")]


def test_speech_of_a_long_recording(models, spoken, options, tmp_path, monkeypatch, capsys):
    """By extract-embeddings, verify-speakers and Python: of the whole recording's speech, which is never loaded."""
    model = speakerkit.load_model(models / "resnet34.safetensors", "cpu", "float32", backend="torch")
    wanted, speech_s = [], []
    for path in spoken:
        samples, rate = soundfile.read(path, dtype="float32")
        wanted.append(model.embed(samples, rate, vad=True))
        speech_s.append(len(load_detector().keep_speech(samples, rate)) / rate)
        assert cosine_score(wanted[-1], model.embed(samples, rate)) < 0.99999  # the pauses count without it
    assert speech_s[0] > 60 > speech_s[1] > 10
    monkeypatch.setattr(recordings, "load_recording", lambda *_: pytest.fail("loaded as a whole"))
    monkeypatch.setattr(utterance_embedding, "load_utterance", lambda *_: pytest.fail("loaded as a whole"))
    (tmp_path / "wav.scp").write_text("".join(f"{number} {path}\n" for number, path in enumerate(spoken)))
    arguments = [str(tmp_path / "wav.scp"), str(tmp_path / "emb.ark"), "--nj", "1", "--vad", *options]
    assert extract_embeddings.main(arguments) == 0
    extracted = list(ark.read_vectors(tmp_path / "emb.ark").values())
    listed = model.embed_file_list(tmp_path / "wav.scp", vad=True).values()
    for ours, alone, one, whole in zip(extracted, listed, (model.embed(path, vad=True) for path in spoken), wanted,
                                       strict=True):
        assert ours.tobytes() == alone.tobytes() == one.tobytes() == whole.tobytes()
    capsys.readouterr()
    assert verify_speakers.main([*spoken, "--vad", *options]) == 0
    assert capsys.readouterr().out.startswith(f"cosine {cosine_score(*wanted):.6f}\n")


def test_speech_for_a_model_that_sees_it_whole(models, spoken):
    model = speakerkit.load_model(models / "campplus.safetensors", "cpu", "float32", backend="torch")
    for path in spoken:
        assert model.embed(path, vad=True).tobytes() == model.embed(*soundfile.read(path, dtype="float32"),
                                                                    vad=True).tobytes()


def test_a_model_that_sees_it_whole(models, two, extracted):
    model = speakerkit.load_model(models / "campplus.safetensors", "cpu", "float32", backend="torch")
    embeddings = [model.embed(*soundfile.read(path, dtype="float32")) for path in two]
    assert model.verify(*two).cosine == cosine_score(*embeddings)


@pytest.mark.parametrize("channel", [None, 0])
def test_a_long_recording_says_of_itself_what_a_loaded_one_does(two, channel):
    content = io.BytesIO(Path(two[1]).read_bytes())
    content.name = two[1]
    for thing in (two[1], content.getvalue(), content):
        streamed = load_or_stream(thing, None, recordings.audio.AudioOptions(channel=channel))
        loaded = load_recording(two[1])
        assert isinstance(streamed, LongRecording) and isinstance(loaded, Recording)
        assert (streamed.sha256, streamed.sample_rate, streamed.duration_s, streamed.notes) == (
            loaded.sha256, loaded.sample_rate, loaded.duration_s, +loaded.notes)
        assert streamed.name == ("<bytes>" if isinstance(thing, bytes) else two[1])
        np.testing.assert_array_equal(streamed.excerpt, loaded.excerpt)
        np.testing.assert_array_equal(streamed.load().samples, loaded.samples)


def test_an_excerpt_is_the_beginning(two, monkeypatch):
    monkeypatch.setattr(recordings, "EXCERPT_S", 12.5)
    np.testing.assert_array_equal(load_or_stream(two[0]).excerpt, load_recording(two[0]).samples[: 12 * 16000 + 8000])


def test_what_is_wrong_is_told_as_of_any(models, two, tmp_path, capsys, options):
    cut = tmp_path / "cut.flac"
    cut.write_bytes(Path(two[0]).read_bytes()[:-90000])
    assert verify_speakers.main([str(cut), two[1], *options]) == 1
    assert f"verify-speakers: {cut}: truncated" in capsys.readouterr().err
    model = speakerkit.load_model(models / "resnet34.safetensors", "cpu", "float32", backend="torch")
    changed = load_or_stream(two[0])
    soundfile.write(tmp_path / "changed.wav", np.zeros(61 * 16000), 16000)
    object.__setattr__(changed.stream, "path", str(tmp_path / "changed.wav"))
    with pytest.raises(RecordingError, match="unreadable: has changed while it was read"):
        api.verification.compare(model.extractor, changed, [changed])


PEAK = """
import resource, sys
from speakerkit.cli.verify_speakers import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB
sys.exit(code)
"""


@pytest.mark.timeout(400)
def test_an_hour_is_verified_in_the_memory_of_minutes(tmp_path, models, run_command):
    """20 minutes against 5, of which the first 5 are looked at: loaded at once, 15 minutes would be 58 MB more."""
    minute = 0.1 * np.random.default_rng(1).standard_normal(60 * 16000).astype(np.float32)
    soundfile.write(tmp_path / "short.wav", minute[:48000], 16000)
    peaks = {}
    for minutes in (5, 20):
        with soundfile.SoundFile(tmp_path / f"{minutes}.wav", "w", 16000, 1, "PCM_16") as sound:
            for _ in range(minutes):
                sound.write(minute)
        ended = run_command(sys.executable, "-c", PEAK, tmp_path / f"{minutes}.wav", tmp_path / "short.wav", "--model",
                            models / "resnet34.safetensors", "--backend", "onnx", "--quiet")
        assert ended.returncode == 0, ended.stderr
        peaks[minutes] = int(ended.stdout.split()[-1]) / 1024
    assert peaks[20] - peaks[5] < 20, peaks
