"""Many utterances at once: the embeddings that they have one by one."""

import logging

import numpy as np
import pytest
import soundfile
import torch

from speakerkit.config import SPEECHBRAIN_FBANK, FbankConfig, ModelConfig
from speakerkit.errors import DataError, MachineError, RecordingError
from speakerkit.inference.backends import load_extractor
from speakerkit.inference.batched_extractor import BatchedExtractor
from speakerkit.inference.device_queue import DirectQueue
from speakerkit.models import model_file

PLAIN = FbankConfig(num_mel_bins=24)
NARROW = {"base_channels": 4, "embedding_dim": 16}
KINDS = {
    "resnet34": (ModelConfig(**NARROW), PLAIN),
    "reference": (ModelConfig(**NARROW, architecture="resnet34_reference", std_floor=1e-12), PLAIN),
    "without mean removal": (ModelConfig(**NARROW, num_blocks=(1, 1, 1, 1), mean_norm=False), PLAIN),
    "dither": (ModelConfig(**NARROW, num_blocks=(1, 1, 1, 1)), FbankConfig(num_mel_bins=24, dither=1.0)),
    "centred frames": (ModelConfig(**NARROW, num_blocks=(1, 1, 1, 1)), FbankConfig(num_mel_bins=24, snip_edges=False)),
    "campplus": (ModelConfig(**NARROW, num_blocks=(3, 4, 3), architecture="campplus", std_floor=0.0), PLAIN),
    "ecapa": (ModelConfig(base_channels=32, embedding_dim=16, architecture="ecapa"), PLAIN),
    "ecapa_speechbrain": (ModelConfig(base_channels=32, embedding_dim=16, architecture="ecapa_speechbrain",
                                      std_floor=1e-12),
                          FbankConfig(num_mel_bins=24, filterbank="speechbrain", **SPEECHBRAIN_FBANK)),
    "eres2net": (ModelConfig(**NARROW, architecture="eres2net", std_floor=1e-8), PLAIN),
}
SECONDS = [0.025, 2.3, 0.3, 3.0, 0.3, 0.91, 1.7, 2.29, 0.5]  # one frame; two equal lengths; near neighbours


@pytest.fixture(scope="module")
def speech(speech_files) -> list[np.ndarray]:
    """Utterances of several speakers, cut to SECONDS where they are loud."""
    found = []
    for paths, seconds in zip(speech_files.values(), SECONDS, strict=False):
        joined = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in paths[:3]])
        found.append(np.ascontiguousarray(joined[8000 : 8000 + round(seconds * 16000)]))
    return found


@pytest.fixture(scope="module")
def load(tmp_path_factory, draw_network):
    """``load("resnet34", precision="float32")``: an extractor on the CPU with drawn weights."""
    folder = tmp_path_factory.mktemp("models")

    def make(kind: str, precision: str = "float32"):
        path = folder / f"{kind}.safetensors"
        if not path.exists():
            model, fbank = KINDS[kind]
            info = model_file.ModelInfo(kind, model, fbank)
            model_file.save_model(path, draw_network(model, fbank.num_columns), info)
        torch.set_num_threads(1)
        return load_extractor(path, "cpu", precision, "torch")

    return make


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


class ShortOfMemory(DirectQueue):
    """As a GPU with memory for so many samples."""

    def __init__(self, runner, most_samples):
        super().__init__(runner)
        self.most_samples, self.freed = most_samples, 0

    def put(self, utterances, num_samples):
        if len(utterances) * num_samples > self.most_samples:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().put(utterances, num_samples)

    def free(self):
        self.freed += 1


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("speakerkit"), "propagate", True)
    caplog.set_level(logging.INFO, "speakerkit")
    return caplog


@pytest.mark.parametrize("kind", KINDS)
def test_together_is_one_by_one(load, speech, kind):
    extractor = load(kind)
    batched = BatchedExtractor(extractor, budget=1000)
    together = batched.embed(speech)
    assert 3 <= batched.num_batches < len(speech) and batched.padded_frames > batched.num_frames
    for samples, embedding in zip(speech, together, strict=True):
        alone = extractor.embed_samples(samples, 16000)
        assert embedding.dtype == np.float32 and embedding.shape == alone.shape
        assert cosine(embedding, alone) >= 0.999999, len(samples)
        np.testing.assert_allclose(embedding, alone, rtol=1e-3, atol=1e-3 * np.abs(alone).max())


@pytest.mark.parametrize("kind", ["resnet34", "ecapa", "campplus"])
def test_bfloat16_is_as_near_as_alone(load, speech, kind):
    """Rounding differs beside padding, but no further from float32 than without."""
    exact, half = load(kind), load(kind, "bfloat16")
    together = BatchedExtractor(half, budget=1000).embed(speech)
    for samples, embedding in zip(speech, together, strict=True):
        plain = exact.embed_samples(samples, 16000)
        alone = half.embed_samples(samples, 16000)
        assert 1 - cosine(embedding, plain) <= 2 * (1 - cosine(alone, plain)) + 2e-4


@pytest.mark.parametrize("budget", [1, 40, 10**6])
def test_the_budget_changes_nothing(load, speech, budget):
    """One frame of budget: each utterance goes alone; 40: the shortest share; a million: all in one batch."""
    extractor = load("resnet34")
    batched = BatchedExtractor(extractor, budget)
    batched.num_batches = 0
    for samples, embedding in zip(speech, batched.embed(speech), strict=True):
        assert cosine(embedding, extractor.embed_samples(samples, 16000)) >= 0.999999
    assert batched.num_batches == {1: 1, 40: 3, 10**6: 1}[budget]


def test_a_long_recording_beside_short_ones(load, speech):
    """40 s: in stretches when it is alone, whole in a batch."""
    extractor = load("resnet34")
    long = np.tile(np.concatenate(speech), 6)[: 40 * 16000]
    found = BatchedExtractor(extractor).embed([speech[1], long, speech[3]])
    for samples, embedding in zip([speech[1], long, speech[3]], found, strict=True):
        assert cosine(embedding, extractor.embed_samples(samples, 16000)) >= 0.999999


def test_what_is_begun_first_may_be_finished_last(load, speech):
    batched = BatchedExtractor(load("resnet34"))
    plain = batched.embed(speech)
    copies = [samples.copy() for samples in speech]
    first, second = batched.begin(copies), batched.begin(copies[::-1])
    for samples in copies:
        samples[:] = np.nan  # what was begun doesn't need them any more
    for found in (batched.finish(second)[::-1], batched.finish(first)):
        np.testing.assert_array_equal(found, plain)


def test_bad_utterances_are_told_one_by_one(load, speech, monkeypatch):
    extractor = load("resnet34")
    monkeypatch.setattr(type(extractor.runner.network), "project", lambda self, pooled: torch.where(
        pooled[:, :1].isnan(), torch.nan, torch.arange(16.0)))
    monkeypatch.setattr("speakerkit.inference.batched_extractor.compare_golden", lambda *args: 1.0)
    nan = speech[1].copy()
    nan[5000] = np.nan
    found = BatchedExtractor(extractor).embed([speech[1], np.zeros(399, np.float32), nan, speech[2]])
    assert [result.reason if isinstance(result, RecordingError) else None for result in found] == [
        None, "too-short", "nan-embedding", None]
    assert found[1].detail == "399 samples; want at least 400" and found[2].path == "samples"
    assert BatchedExtractor(extractor).embed([]) == []


def test_no_memory_halves_the_budget(load, speech, said):
    extractor = load("resnet34")
    queue = ShortOfMemory(extractor.runner, 16000 * 7)  # 7 s: the golden signal's batch takes 8
    batched = BatchedExtractor.__new__(BatchedExtractor)
    with pytest.raises(MachineError, match="^cpu: out of memory; another program may hold it, or want --device cpu$"):
        batched.__init__(extractor, 4000, queue)
    queue.most_samples = 16000 * 8
    batched.__init__(extractor, 4000, queue)
    found = batched.embed(speech)
    for samples, embedding in zip(speech, found, strict=True):
        assert cosine(embedding, extractor.embed_samples(samples, 16000)) >= 0.999999
    assert 8 * 50 < batched.budget <= 8 * 100 and queue.freed == len(said.messages) > 0
    assert said.messages[-1] == (f"cpu: out of memory; going on with batches of at most {batched.budget:,} frames")
    said.clear()
    batched.embed(speech)
    assert not said.messages


def test_memory_for_no_batch_is_the_way_alone(load, speech):
    extractor = load("resnet34")
    queue = ShortOfMemory(extractor.runner, 10**9)
    batched = BatchedExtractor(extractor, queue=queue)
    queue.most_samples = 0
    for samples, embedding in zip(speech, batched.embed(speech), strict=True):
        np.testing.assert_array_equal(embedding, extractor.embed_samples(samples, 16000))


def test_memory_for_no_utterance_is_a_machine_that_failed(load, speech, monkeypatch):
    extractor = load("resnet34")
    queue = ShortOfMemory(extractor.runner, 10**9)
    batched = BatchedExtractor(extractor, queue=queue)
    queue.most_samples = 0

    def refuse(self, samples):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(type(extractor.runner), "embed", refuse)
    with pytest.raises(MachineError, match=r"^cpu: out of memory for one utterance of 3\.0 s; want --device cpu$"):
        batched.embed(speech)


@pytest.mark.parametrize("error, caught, message", [
    (torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with ..."), MachineError,
     "^cpu: CUDA error: an illegal memory access was encountered$"),
    (RuntimeError("a bug"), RuntimeError, "^a bug$"),
])
def test_a_gpu_that_fails_is_told_in_a_line(load, speech, monkeypatch, error, caught, message):
    batched = BatchedExtractor(load("resnet34"))

    def fail(*args):
        raise error

    monkeypatch.setattr(batched.queue, "put", fail)
    with pytest.raises(caught, match=message):
        batched.embed(speech)


def test_a_machine_that_computes_wrongly_in_batches_is_refused(load, monkeypatch):
    """Alone it is right: only a mask is forgotten."""
    extractor = load("resnet34")
    network = type(extractor.runner.network)
    plain = network.forward
    monkeypatch.setattr(network, "forward", lambda self, features, lengths=None: plain(self, features))
    with pytest.raises(DataError, match="gives another embedding for its golden signal: cosine"):
        BatchedExtractor(extractor)
