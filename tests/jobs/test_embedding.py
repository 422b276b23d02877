"""Long recordings in every form by the Python API: in blocks, and the bytes that extract-embeddings writes."""

import io

import numpy as np
import pytest
import soundfile

import speakerkit
from speakerkit.cli import extract_embeddings
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import RecordingError
from speakerkit.io import ark
from speakerkit.jobs import embedding
from speakerkit.models import model_file

SECONDS = 64


@pytest.fixture(scope="module")
def model_path(tmp_path_factory, draw_network):
    config = ModelConfig(base_channels=4, num_blocks=(1, 1, 1, 1), embedding_dim=16)
    fbank = FbankConfig(num_mel_bins=24)
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    model_file.save_model(path, draw_network(config, 24), model_file.ModelInfo("m", config, fbank))
    return path


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, speech_files):
    """A minute and more of one speaker, at 16 and at 22.05 kHz: the second is resampled block by block."""
    folder = tmp_path_factory.mktemp("long")
    for number, (rate, paths) in enumerate(zip((16000, 22050), speech_files.values(), strict=False)):
        samples = np.concatenate([soundfile.read(path, dtype="int16")[0] for path in paths])
        soundfile.write(folder / f"{number}.flac", np.resize(samples, SECONDS * rate), rate)
    return [folder / "0.flac", folder / "1.flac"]


@pytest.fixture(scope="module")
def by_command(model_path, recordings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    (folder / "wav.scp").write_text("".join(f"{path.stem} {path}\n" for path in recordings))
    (folder / "segments").write_text("s 0 1.0 63.5\n")
    common = ["--model", str(model_path), "--backend", "torch", "--precision", "float32", "--nj", "1", "--quiet"]
    assert extract_embeddings.main([str(folder / "wav.scp"), str(folder / "emb.ark"), *common]) == 0
    assert extract_embeddings.main([str(folder / "wav.scp"), str(folder / "part.ark"), "--segments",
                                    str(folder / "segments"), *common]) == 0
    return folder


class Pipe:
    """A file object that only reads, and only once."""

    def __init__(self, data):
        self.read = io.BytesIO(data).read


@pytest.mark.parametrize("form", [str, lambda path: path, lambda path: path.read_bytes(),
                                  lambda path: io.BytesIO(path.read_bytes()), lambda path: Pipe(path.read_bytes()),
                                  lambda path: path.open("rb")],
                         ids=["str", "path", "bytes", "memory", "pipe", "file"])
def test_a_long_file_in_any_form(model_path, recordings, by_command, monkeypatch, form):
    model = speakerkit.load_model(model_path, "cpu", "float32", backend="torch")
    wanted = ark.read_vectors(by_command / "emb.ark")
    monkeypatch.setattr(embedding, "load_recording", lambda *_: pytest.fail("loaded as a whole"))
    for path in recordings:
        assert model.embed(form(path)).tobytes() == wanted[path.stem].tobytes()
    both = model.embed([form(path) for path in recordings], nj=2)
    assert both.tobytes() == b"".join(wanted[path.stem].tobytes() for path in recordings)


def test_a_list_and_its_segments(model_path, by_command, monkeypatch):
    model = speakerkit.load_model(model_path, "cpu", "float32", backend="torch")
    monkeypatch.setattr(embedding, "load_utterance", lambda *_: pytest.fail("loaded as a whole"))
    for file, segments in (("emb.ark", None), ("part.ark", by_command / "segments")):
        wanted = ark.read_vectors(by_command / file)
        found = model.embed_file_list(by_command / "wav.scp", segments)
        assert {utt_id: vector.tobytes() for utt_id, vector in found.items()} == {
            utt_id: vector.tobytes() for utt_id, vector in wanted.items()}


def test_what_is_wrong_with_a_long_file_is_told_as_with_any(model_path, recordings, tmp_path):
    model = speakerkit.load_model(model_path, "cpu", "float32", backend="torch")
    cut = tmp_path / "cut.flac"
    cut.write_bytes(recordings[0].read_bytes()[:-90000])
    for form, name in ((cut, str(cut)), (cut.read_bytes(), "<bytes>"), (cut.open("rb"), str(cut))):
        with pytest.raises(RecordingError) as caught:
            model.embed(form)
        assert (caught.value.path, caught.value.reason) == (name, "truncated")
    with pytest.raises(RecordingError, match="too-long"):
        model.embed(recordings[0], max_duration_s=60)
    with pytest.raises(ValueError, match="sample_rate=16000 is for arrays"):
        model.embed(recordings[0], 16000)
