"""The Python API: every form of a recording gives the embedding of the file, and what can't be used is no number."""

import functools
import http.server
import io
import itertools
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import speakerkit
from speakerkit.cli import extract_embeddings
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.errors import BatchError, ConfigError, DataError, DataErrors, RecordingError
from speakerkit.features.resample import resample
from speakerkit.io import ark
from speakerkit.jobs.verification import Verification
from speakerkit.models import model_file, networks
from speakerkit.scoring.cosine import cosine_score


@pytest.fixture(scope="module")
def write_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")

    def write(seed=1, name="small", **facts):
        config = ModelConfig(base_channels=4, num_blocks=(1, 1, 1, 1), embedding_dim=16)
        fbank = FbankConfig(num_mel_bins=24)
        network = networks.make_network(config, fbank.num_columns)
        networks.initialise(network, torch.Generator().manual_seed(seed))
        path = folder / f"{name}.safetensors"
        model_file.save_model(path, network.eval(), model_file.ModelInfo(name, config, fbank, **facts))
        return path

    return write


@pytest.fixture(scope="module")
def model(write_model):
    return speakerkit.load_model(write_model(threshold=0.5, domain="read speech"), "cpu", "float32")


@pytest.fixture(scope="module")
def wavs(speech_files, tmp_path_factory) -> list[Path]:
    """Four recordings of two seconds, 16-bit."""
    folder, paths = tmp_path_factory.mktemp("wavs"), []
    for speaker, recordings in itertools.islice(speech_files.items(), 2):
        for number, recording in enumerate(recordings[:2]):
            samples, rate = soundfile.read(recording, dtype="int16", frames=32000)
            paths.append(folder / f"{speaker}-{number}.wav")
            soundfile.write(paths[-1], samples, rate)
    return paths


@pytest.fixture(scope="module")
def speech(wavs) -> np.ndarray:
    return soundfile.read(wavs[0], dtype="int16")[0]


class Stream:
    """A file object that reads and does nothing else."""

    def __init__(self, data):
        self.data, self.read_calls = data, 0

    def read(self):
        return self.data


def test_it_is_what_extract_embeddings_writes(model, wavs, tmp_path):
    (tmp_path / "wav.scp").write_text("".join(f"u{n} {path}\n" for n, path in enumerate(wavs)))
    code = extract_embeddings.main([str(tmp_path / "wav.scp"), str(tmp_path / "emb.ark"), "--model",
                                    model.extractor.path, "--device", "cpu", "--precision", "float32", "--nj", "1"])
    assert code == 0
    written = ark.read_vectors(tmp_path / "emb.ark")
    listed = model.embed_file_list(tmp_path / "wav.scp")
    assert list(listed) == list(written)
    for utt_id, path in zip(written, wavs, strict=True):
        assert model.embed(path).tobytes() == written[utt_id].tobytes() == listed[utt_id].tobytes()


def as_fifo_object(path, folder):
    """The reading end of a FIFO, which can't seek."""
    os.mkfifo(folder / "fifo")
    writer = threading.Thread(target=lambda: (folder / "fifo").write_bytes(path.read_bytes()))
    writer.start()
    return open(folder / "fifo", "rb")  # noqa: SIM115 - read by the test


@pytest.mark.parametrize("form", ["str", "Path", "bytes", "bytearray", "memoryview", "open file", "BytesIO", "no seek",
                                  "FIFO object", "flac", "path with spaces and 中文"])
def test_every_form_of_a_file(model, wavs, tmp_path, speech, form):
    path = wavs[0]
    data = path.read_bytes()
    if form == "flac":
        soundfile.write(tmp_path / "a.flac", speech, 16000)
    odd = tmp_path / "a  b 中文.wav"
    odd.write_bytes(data)
    thing = {"str": lambda: str(path), "Path": lambda: path, "bytes": lambda: data,
             "bytearray": lambda: bytearray(data), "memoryview": lambda: memoryview(data),
             "open file": lambda: path.open("rb"), "BytesIO": lambda: io.BytesIO(data), "no seek": lambda: Stream(data),
             "FIFO object": lambda: as_fifo_object(path, tmp_path), "flac": lambda: tmp_path / "a.flac",
             "path with spaces and 中文": lambda: odd}[form]()
    assert np.array_equal(model.embed(thing), model.embed(path))


FORMS = {
    "int16": lambda x: x,
    "int16, big-endian": lambda x: x.astype(">i2"),
    "int32": lambda x: x.astype(np.int32) << 16,
    "float32": lambda x: x.astype(np.float32) / 32768,
    "float64": lambda x: x / 32768,
    "(n, 1)": lambda x: x[:, None],
    "(1, n)": lambda x: x[None],
    "every second of a longer one": lambda x: np.repeat(x, 2)[::2],
    "backwards twice": lambda x: x[::-1].copy()[::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.int16),
    "tensor int16": lambda x: torch.from_numpy(x.copy()),
    "tensor float32": lambda x: torch.from_numpy(x / 32768).float(),
    "tensor float64 (1, n)": lambda x: torch.from_numpy(x / 32768)[None],
    "tensor with a gradient": lambda x: torch.from_numpy(x / 32768).float().requires_grad_(),
    "tensor negated when read": lambda x: torch._neg_view(torch.from_numpy(-x / 32768).float()),
    "parameter": lambda x: torch.nn.Parameter(torch.from_numpy(x / 32768).float()),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_samples(model, wavs, speech, form):
    assert np.array_equal(model.embed(FORMS[form](speech), sample_rate=16000), model.embed(wavs[0]))


@pytest.mark.parametrize("form", [lambda x: (x / 32768).astype(np.float16),
                                  lambda x: torch.from_numpy(x / 32768).half(),
                                  lambda x: torch.from_numpy(x / 32768).bfloat16()])
def test_half_precision_is_near(model, wavs, speech, form):
    assert cosine_score(model.embed(form(speech), 16000), model.embed(wavs[0])) > 0.99


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_tensor_on_a_gpu(model, wavs, speech):
    samples = torch.from_numpy(speech.copy()).cuda()
    assert np.array_equal(model.embed(samples, sample_rate=16000), model.embed(wavs[0]))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_any_rate_is_the_file_of_that_rate(model, speech, tmp_path, rate, subtype):
    samples = resample(speech / 32768, 16000, rate)
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype=subtype)
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="int16" if subtype == "PCM_16" else "float32")
    embedding = model.embed(samples, sample_rate=rate)
    assert np.array_equal(embedding, model.embed(tmp_path / "a.wav"))
    assert np.array_equal(embedding, model.embed(samples, sample_rate=float(rate)))


@pytest.mark.parametrize("rate", [22050, 32000, 44100, 48000])
def test_resampled_it_is_the_same_sound(model, speech, rate):
    """Up by soxr here, down by soxr in the model: what lies below both filters' edges stays."""
    sound = resample(resample(speech / 32768, 16000, 12000), 12000, 16000)  # nothing near the edge of 16 kHz
    again = model.embed(resample(sound, 16000, rate), sample_rate=rate)
    assert cosine_score(again, model.embed(sound, sample_rate=16000)) >= 0.9999


def test_channels_are_chosen(model, wavs, speech, tmp_path):
    other = soundfile.read(wavs[2], dtype="int16")[0]
    length = min(len(speech), len(other))
    both = np.stack([speech[:length], other[:length]], axis=1)
    soundfile.write(tmp_path / "both.wav", both, 16000)
    for channel in (0, 1, "mix"):
        wanted = model.embed(tmp_path / "both.wav", channel=channel)
        for form in (both, both.T, both / 32768, torch.from_numpy(both.T.copy())):
            assert np.array_equal(model.embed(form, sample_rate=16000, channel=channel), wanted)
    for thing, rate in ((tmp_path / "both.wav", None), (both, 16000), (both.T, 16000)):
        with pytest.raises(RecordingError, match="2 channels; give --channel N") as caught:
            model.embed(thing, rate)
        assert caught.value.reason == "channel-not-chosen"
        with pytest.raises(RecordingError, match="no channel 2 among 2"):
            model.embed(thing, rate, channel=2)


def tone(seconds=1.0, rate=16000, level=0.1):
    return (level * np.sin(np.arange(int(seconds * rate)) * 0.3)).astype(np.float32)


def with_value(value, place=5000):
    samples = tone()
    samples[place] = value
    return samples


@pytest.mark.parametrize("samples, rate, reason, detail", [
    (np.zeros(16000, np.int16), 16000, "silent", "0.00 s above the noise"),
    (np.full(16000, 0.25), 16000, "silent", "0.00 s above the noise"),      # an offset is no sound
    (np.stack([tone(), -tone()]), 16000, "silent", "0.00 s above"),         # channels that cancel, mixed below
    (tone()[:0], 16000, "empty", "no samples"),
    (np.zeros((0, 2), np.int16), 16000, "empty", "no samples"),
    (tone(0.1), 16000, "too-short", "0.100 s; wanted at least 0.3 s"),
    (with_value(np.nan), 16000, "not-finite", "sample 5000 (0.3125 s) is nan"),
    (with_value(-np.inf), 16000, "not-finite", "sample 5000 (0.3125 s) is -inf"),
    (tone() * 30000, 16000, "unsupported-format", "float samples in the 16-bit scale; want -1 to 1 (divide by 32768)"),
    (tone().astype(np.float64) * 1e300, 16000, "unsupported-format", "float samples in the 16-bit scale"),
    ((tone() * 30000).astype(np.int32), 16000, "unsupported-format",
     "int32 samples in the 16-bit scale (-3000 to 3000); want .astype('int16')"),
    (tone(), 16, "bad-sample-rate", "16 Hz; want 4000 to 192000 Hz"),       # kHz
    (tone(), 0, "bad-sample-rate", "0 Hz; want 4000"),
    (tone(), -16000, "bad-sample-rate", "-16000 Hz; want 4000"),
    (tone(), 384000, "bad-sample-rate", "384000 Hz; want 4000 to 192000 Hz"),
    (tone(), 192000, "too-short", "0.083 s; wanted at least 0.3 s"),        # a wrong rate: 1 s of 16 kHz
], ids=lambda value: None if isinstance(value, np.ndarray) else str(value)[:30])
@pytest.mark.parametrize("as_form", [np.asarray, torch.from_numpy])
def test_samples_without_an_answer(model, samples, rate, reason, detail, as_form):
    with pytest.raises(RecordingError) as caught:
        model.embed(as_form(samples), rate, channel="mix")
    assert caught.value.reason == reason
    assert str(caught.value) == f"samples: {reason}: {caught.value.detail}" and detail in caught.value.detail


@pytest.mark.parametrize("samples, rate, message", [
    (tone(), None, "samples don't say their rate; give sample_rate=, in Hz"),
    (tone(), "16000", "sample_rate is '16000'; want whole Hz"),
    (tone(), float("nan"), "sample_rate is nan; want whole Hz"),
    (tone(), float("inf"), "sample_rate is inf; want whole Hz"),
    (tone(), True, "sample_rate is True; want whole Hz"),
    (tone(), 44100.5, "sample_rate is 44100.5; want whole Hz"),
    (tone().astype(np.int64), 16000, "samples are int64; want int16, int32, float32 or float64"),
    (tone().astype(np.int8), 16000, "samples are int8; want"),
    (tone().astype(np.uint16), 16000, "samples are uint16; want"),
    (tone() > 0, 16000, "samples are bool; want"),
    (tone().astype(complex), 16000, "samples are complex128; want"),
    (torch.zeros(20000).to(torch.float8_e4m3fn), 16000, "samples are torch.float8_e4m3fn; want int16"),
    (np.ma.masked_less(tone(), 0), 16000, "samples are masked in places"),
    (np.array(["a"]), 16000, "samples are <U1; want"),
    (np.array([None]), 16000, "samples are object; want"),
    (np.float32(1), 16000, "samples have shape ()"),
    (tone().reshape(2, 2, -1), 16000, "samples have shape (2, 2, 4000); want (num_samples,)"),
    (np.zeros((300, 80), np.float32), 16000, "samples have shape (300, 80); want (num_samples,), or time"),  # an fbank
    (np.zeros((50, 50), np.float32), 16000, "samples have shape (50, 50)"),
], ids=lambda value: None if isinstance(value, np.ndarray) else str(value)[:30])
def test_a_callers_mistake_with_samples(model, samples, rate, message):
    with pytest.raises(ValueError) as caught:
        model.embed(samples, rate)
    assert message in str(caught.value)


def bad_file(kind, folder, wav):
    path = folder / f"{kind}.wav"
    if kind == "silent":
        soundfile.write(path, np.zeros(16000), 16000)
    elif kind == "too-short":
        soundfile.write(path, tone(0.1), 16000)
    elif kind == "not-finite":
        soundfile.write(path, with_value(np.nan), 16000, subtype="FLOAT")
    elif kind == "unsupported-format":
        path.write_bytes(bytes(range(256)) * 10)
    elif kind == "truncated":
        path.write_bytes(wav.read_bytes()[:20000])
    elif kind == "empty":
        path.touch()
    return path


@pytest.mark.parametrize("kind", ["silent", "too-short", "not-finite", "unsupported-format", "truncated", "empty"])
@pytest.mark.parametrize("form", ["path", "bytes", "file object"])
def test_files_without_an_answer(model, wavs, tmp_path, kind, form):
    path = bad_file(kind, tmp_path, wavs[0])
    thing = {"path": path, "bytes": path.read_bytes(), "file object": io.BytesIO(path.read_bytes())}[form]
    with pytest.raises(RecordingError) as caught:
        model.embed(thing)
    assert caught.value.reason == kind
    assert caught.value.path == (str(path) if form == "path" else "<bytes>")


def test_places_that_are_no_file(model, wavs, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for thing, reason, detail in [
        (tmp_path, "not-a-file", "is a folder"),
        (tmp_path / "fifo", "not-a-file", "is a FIFO"),
        ("/dev/null", "not-a-file", "is a device"),
        (tmp_path / "nowhere.wav", "missing", "no such file"),
        ("~/a.wav", "missing", "isn't expanded here"),
        ("a\0b.wav", "missing", "NUL"),
        ("", "missing", "no such file"),
        (f"touch {tmp_path}/ran |", "pipe-refused", ""),
        ("https://example.com/a.wav", "missing", "a URL is fetched by embed_url"),
    ]:
        with pytest.raises(RecordingError) as caught:
            model.embed(thing)
        assert caught.value.reason == reason and detail in caught.value.detail, thing
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("thing, rate, options, message", [
    (None, None, {}, "not NoneType"),
    (3, None, {}, "not int"),
    ({"path": "a.wav"}, None, {}, "not dict"),
    (io.StringIO("text"), None, {}, "the file object gives str; open it in binary mode"),
    (Stream(None), None, {}, "the file object gives NoneType"),
    (io.TextIOWrapper(io.BytesIO(b"fLaC\xff\xfe"), "utf-8"), None, {}, "open it in binary mode"),
    (torch.zeros(20000).to_sparse(), 16000, {}, "a tensor of layout torch.sparse_coo on cpu; want a dense one"),
    (torch.zeros(20000, device="meta"), 16000, {}, "on meta; want a dense one"),
    ("a.wav", 16000, {}, "sample_rate=16000 is for arrays; a file says its own"),
    (b"RIFF", 16000, {}, "sample_rate=16000 is for arrays"),
    (tone(), 16000, {"channel": -1}, "channel is -1"),
    (tone(), 16000, {"min_duration_s": float("nan")}, "min_duration_s is nan"),
    (tone(), 16000, {"allow_pipes": True}, "shell pipes aren't run here"),
    ([tone(), 3.0], 16000, {}, "item 1 is float; want a path"),
    ((tone(), 16000), None, {}, "item 1 is int; want a path"),
    ([tone(), tone()], [16000], {}, "1 sample rates for 2 recordings"),
    (["a.wav"], 16000, {}, "sample_rate=16000 is for arrays"),
    ([tone()], 16000, {"on_bad": "skip"}, "on_bad is 'skip'; want 'raise' or 'return'"),
    ([tone(), tone()], 16000, {"nj": -1}, "nj is -1; want 1 or more"),
    ([tone(), tone()], 16000, {"nj": "2"}, "nj is '2'; want 1 or more"),
])
def test_a_callers_mistake(model, thing, rate, options, message):
    with pytest.raises(ValueError) as caught:
        model.embed(thing, rate, **options)
    assert message in str(caught.value)


class Broken:
    def read(self):
        raise OSError(5, "Input/output error")


def test_a_file_object_that_fails(model, wavs):
    with pytest.raises(RecordingError, match="<bytes>: unreadable: Input/output error"):
        model.embed(Broken())
    good, bad = model.embed([wavs[0], Broken()], on_bad="return")
    assert good.shape == (16,) and bad.reason == "unreadable"


def test_an_option_that_does_not_exist(model, wavs):
    with pytest.raises(TypeError, match="chanel"):
        model.embed(wavs[0], chanel=0)


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def address(tmp_path):
    """A server of tmp_path."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=tmp_path))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_only_what_is_speech(model, speech_files, tmp_path):
    """What extract-embeddings --vad gives; where nobody speaks there is no number."""
    path = next(iter(speech_files.values()))[0]
    samples, rate = soundfile.read(path, dtype="float32")
    padded = tmp_path / "padded.wav"
    hiss = 1e-3 * np.random.default_rng(1).standard_normal(3 * rate).astype(np.float32)
    soundfile.write(padded, np.concatenate([hiss, samples, hiss]), rate, subtype="FLOAT")
    (tmp_path / "wav.scp").write_text(f"u {padded}\n")
    code = extract_embeddings.main([str(tmp_path / "wav.scp"), str(tmp_path / "emb.ark"), "--model",
                                    model.extractor.path, "--device", "cpu", "--precision", "float32", "--vad"])
    assert code == 0
    written = ark.read_vectors(tmp_path / "emb.ark")["u"].tobytes()
    assert model.embed(padded, vad=True).tobytes() == written != model.embed(padded).tobytes()
    assert model.embed([padded.read_bytes()], vad=True)[0].tobytes() == written
    assert model.embed_file_list(tmp_path / "wav.scp", vad=True)["u"].tobytes() == written
    for call in (lambda: model.embed(hiss, rate, vad=True), lambda: model.verify(path, hiss, rate, vad=True)):
        with pytest.raises(RecordingError) as caught:
            call()
        assert caught.value.reason == "no-speech"


def test_a_url(model, wavs, speech, tmp_path, address):
    (tmp_path / "a.wav").write_bytes(wavs[0].read_bytes())
    wanted = model.embed(wavs[0])
    assert np.array_equal(model.embed_url(f"{address}/a.wav?token=secret", allow_private=True), wanted)
    (tmp_path / "a.pcm").write_bytes(speech.astype("<i2").tobytes())
    assert np.array_equal(model.embed_url(f"{address}/a.pcm", allow_private=True, pcm_rate=16000), wanted)
    fetched = speakerkit.fetch_url(f"{address}/a.wav", allow_private=True)
    assert model.verify(fetched, wavs[0]).cosine == pytest.approx(1.0)
    bad_file("silent", tmp_path, wavs[0])
    for path, options, reason in [("/a.wav", {}, "url-refused"), ("/b.wav", {"allow_private": True}, "missing"),
                                  ("/a.wav", {"allow_private": True, "max_bytes": 1000}, "url-refused"),
                                  ("/silent.wav", {"allow_private": True}, "silent"),
                                  ("/", {"allow_private": True}, "unsupported-format")]:
        with pytest.raises(RecordingError) as caught:
            model.embed_url(address + path + "?token=secret", **options)
        assert caught.value.reason == reason and caught.value.path == address + path


def test_longest_duration(model, wavs):
    with pytest.raises(RecordingError, match=r"too-long: 2.0 s; wanted at most 1 s"):
        model.embed(wavs[0], max_duration_s=1.0)


def test_a_list_is_a_batch(model, wavs, speech):
    one_by_one = np.stack([model.embed(path) for path in wavs])
    for nj in (None, 1, 3):
        batch = model.embed(wavs, nj=nj)
        assert batch.dtype == np.float32 and batch.tobytes() == one_by_one.tobytes()
    mixed = model.embed([str(wavs[0]), wavs[0].read_bytes(), speech, torch.from_numpy(speech.copy())], 16000)
    assert np.array_equal(mixed, one_by_one[[0, 0, 0, 0]])
    rates = model.embed((speech, wavs[1], speech), (16000, None, 8000))
    assert np.array_equal(rates[:2], one_by_one[:2])
    assert np.array_equal(rates[2], model.embed(speech, 8000))
    assert model.embed([]).shape == (0, 16)


def test_bad_ones_in_a_list(model, wavs, tmp_path):
    silence = np.zeros(16000, np.int16)
    batch = [wavs[0], silence, tmp_path / "nowhere.wav", wavs[1]]
    with pytest.raises(BatchError) as caught:
        model.embed(batch, 16000)
    assert str(caught.value).splitlines() == [
        "recordings[1]: silent: 0.00 s above the noise of 16-bit rounding; wanted at least 0.1 s (peak 0)",
        f"{tmp_path}/nowhere.wav: missing: no such file"]
    results = model.embed(batch, 16000, on_bad="return")
    for found in (results, caught.value.results):
        assert [getattr(result, "reason", "embedding") for result in found] == [
            "embedding", "silent", "missing", "embedding"]
        assert np.array_equal(found[3], model.embed(wavs[1]))
    assert isinstance(caught.value, DataErrors)


def test_a_file_list(model, wavs, tmp_path):
    wav_scp = tmp_path / "wav.scp"
    wav_scp.write_text(f"a {wavs[0]}\nb {tmp_path}/nowhere.wav\n")
    with pytest.raises(BatchError, match="nowhere.wav: missing"):
        model.embed_file_list(wav_scp)
    results = model.embed_file_list(wav_scp, on_bad="return")
    assert list(results) == ["a", "b"] and results["b"].reason == "missing"
    (tmp_path / "segments").write_text("a-1 a 0 1\na-2 a 1 2\n")
    wav_scp.write_text(f"a {wavs[0]}\n")
    parts = model.embed_file_list(wav_scp, tmp_path / "segments")
    samples = soundfile.read(wavs[0], dtype="int16")[0]
    assert np.array_equal(parts["a-2"], model.embed(samples[16000:32000], 16000))
    for text, message in [("a touch x |\n", "is a shell pipe"), ("a\n", "wav.scp:1: 'a' has no path"),
                          ("", "is empty")]:
        wav_scp.write_text(text)
        with pytest.raises(DataError, match=message):
            model.embed_file_list(wav_scp)


def test_verify(model, wavs, speech):
    answer = model.verify(wavs[0], wavs[2])
    assert isinstance(answer, Verification)
    cosine = cosine_score(model.embed(wavs[0]), model.embed(wavs[2]))
    assert answer.cosine == cosine and answer.threshold == 0.5
    assert answer.similarity == pytest.approx(max(cosine - 0.5, 0) / 0.5 * 100)
    assert answer.decision == ("same" if cosine >= 0.5 else "different")
    assert (answer.llr, answer.domain, answer.model, answer.sha256) == (None, "read speech", "small", model.sha256)
    with pytest.raises(AttributeError):
        answer.cosine = 1.0
    mean = np.mean([model.embed(path) for path in wavs[:2]], axis=0, dtype=np.float64)
    assert model.verify(wavs[:2], wavs[2]).cosine == cosine_score(model.embed(wavs[2]), mean)
    assert model.verify(speech, wavs[2], sample_rate=16000).cosine == cosine
    assert model.verify([speech, wavs[1]], speech, (16000, None, 16000)).cosine < 1.0


def test_verify_says_what_makes_it_unsure(model, wavs, speech):
    answer = model.verify(speech[:8000], speech[:8000], 16000)
    assert answer.cosine == pytest.approx(1.0)
    assert "recordings[1] (0.50 s): shorter than 1 s: the embedding says little" in answer.warnings
    assert "recordings[1] and recordings[0] hold the same samples: that says nothing of the speaker" in answer.warnings
    assert not [warning for warning in model.verify(wavs[0], wavs[2]).warnings if "hold the same" in warning]


def test_verify_gives_no_number_for_nothing(model, wavs, tmp_path):
    silence = np.zeros(16000, np.int16)
    with pytest.raises(RecordingError) as caught:
        model.verify(wavs[0], silence, 16000)
    assert caught.value.reason == "silent"
    with pytest.raises(DataErrors) as caught:
        model.verify([wavs[0], tmp_path / "nowhere.wav"], silence, 16000)
    assert [fault.reason for fault in caught.value.faults] == ["missing", "silent"]
    with pytest.raises(ValueError, match="no recording of the speaker"):
        model.verify([], wavs[0])


def test_a_calibrated_model_gives_a_log_likelihood_ratio(write_model, wavs):
    path = write_model(name="calibrated", calibration={"scale": 20.0, "offset": -8.0, "trials": "some"})
    answer = speakerkit.load_model(path, "cpu", "float32").verify(wavs[0], wavs[1])
    assert answer.llr == pytest.approx(20.0 * answer.cosine - 8.0)
    assert answer.decision is answer.similarity is answer.threshold is None


@pytest.mark.parametrize("facts, message", [
    ({"threshold": 1.5}, "threshold is 1.5; want a cosine between -1 and 1"),
    ({"calibration": {"scale": 2.0}}, "'offset' is missing"),
    ({"calibration": {"scale": -2.0, "offset": 0.0}}, "scale is -2.0"),
])
def test_a_model_that_can_not_judge(write_model, wavs, facts, message):
    model = speakerkit.load_model(write_model(name="odd", **facts), "cpu", "float32")
    with pytest.raises(DataError, match=message):
        model.verify(wavs[0], wavs[1])


def test_a_model_is_loaded_once(write_model, model, tmp_path, monkeypatch):
    path = Path(model.extractor.path)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(path.read_bytes())
    speakerkit.forget_models()
    loads = []
    load = speakerkit.api.load_extractor
    monkeypatch.setattr(speakerkit.api, "load_extractor", lambda *args: (loads.append(args), load(*args))[1])
    with ThreadPoolExecutor(8) as pool:
        models = list(pool.map(lambda name: speakerkit.load_model(name, "cpu", "float32"), [path, copy] * 8))
    assert len(loads) == 1 and len(set(map(id, models))) == 1  # the same content is the same model
    assert speakerkit.load_model(path, "cpu", "bfloat16") is not models[0]
    assert speakerkit.load_model(path, "cpu", "float32", cache=False) is not models[0]
    assert speakerkit.load_model(write_model(2, "other"), "cpu", "float32").sha256 != models[0].sha256
    assert len(loads) == 4
    speakerkit.forget_models()
    assert speakerkit.load_model(path, "cpu", "float32") is not models[0]


def test_the_same_bytes_from_any_thread(model, wavs):
    """And the caller's own number of torch threads is left as it was."""
    alone = [model.embed(path).tobytes() for path in wavs]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda path: model.embed(path).tobytes(), wavs * 6))
            verified = list(pool.map(lambda path: model.verify(path, wavs[0]).cosine, wavs * 3))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert together == alone * 6
    assert verified == [model.verify(path, wavs[0]).cosine for path in wavs] * 3


@pytest.mark.parametrize("arguments, error, message", [
    ({"device": "gpu"}, ValueError, "device is 'gpu'; want auto, cpu, cuda or cuda:N"),
    ({"precision": "float16"}, ValueError, "precision is 'float16'; want auto, float32, bfloat16 or int8"),
    ({"name": "no-such-model"}, DataError, "no-such-model: no such model"),
    ({"device": "cuda:99"}, ConfigError, "--device cuda:99"),
])
def test_a_model_that_is_not_there(arguments, error, message):
    with pytest.raises(error, match=message):
        speakerkit.load_model(**arguments)


def test_the_bundled_model_is_the_default(monkeypatch, speech_files):
    monkeypatch.delenv("SPEAKERKIT_MODEL", raising=False)
    model = speakerkit.load_model()
    assert model.info.name == "speechocean-resnet34" and model.embedding_dim == 256
    assert repr(model).startswith("<Model speechocean-resnet34 ")


def test_importing_is_light():
    code = ("import sys, speakerkit; names = dir(speakerkit); "
            "print([name for name in ('torch', 'numpy', 'dataclasses', 'speakerkit.api') if name in sys.modules]); "
            "print('load_model' in names, hasattr(speakerkit, 'no_such_name'))")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.splitlines() == ["[]", "True False"]


def test_every_name_is_there():
    assert all(getattr(speakerkit, name).__name__ == name for name in speakerkit.__all__)
