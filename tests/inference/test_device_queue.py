"""Batches on a device: shapes that are recorded, and a GPU where there is one."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.inference import device_queue
from speakerkit.inference.backends import load_extractor
from speakerkit.inference.batched_extractor import BatchedExtractor
from speakerkit.inference.device_queue import AHEAD, EAGER_RUNS, MOST_GRAPHS, CudaQueue, DirectQueue, RepeatedShapes
from speakerkit.inference.throughput import measure_peak, operations_per_frame
from speakerkit.models import device, model_file
from speakerkit.models.folding import prepare_for_inference

FBANK = FbankConfig(num_mel_bins=40)
LENGTHS = torch.tensor([1])


def row(number: int) -> torch.Tensor:
    return torch.zeros(1, number + 1)


@pytest.fixture(scope="module")
def small(tmp_path_factory, draw_network) -> Path:
    config = ModelConfig(base_channels=8, embedding_dim=32)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    model_file.save_model(path, draw_network(config, 40), model_file.ModelInfo("small", config, FBANK))
    torch.set_num_threads(1)
    return path


class Recorder:
    """Stands in for CUDA's graphs: what is recorded says so."""

    def __init__(self, refuse: bool = False):
        self.refuse, self.count = refuse, 0

    def __call__(self, samples, lengths):
        if self.refuse:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        self.count += 1
        return lambda samples, lengths: "replayed"


def test_a_shape_is_recorded_when_it_comes_again():
    record = Recorder()
    compute = RepeatedShapes(lambda samples, lengths: "eager", record)
    assert [compute(row(1), LENGTHS) for _ in range(EAGER_RUNS + 2)] == ["eager"] * EAGER_RUNS + ["replayed"] * 2
    assert compute(row(2), LENGTHS) == "eager"
    assert record.count == 1


def test_recorded_shapes_are_few():
    record = Recorder()
    compute = RepeatedShapes(lambda samples, lengths: "eager", record)
    last = [[compute(row(number), LENGTHS) for _ in range(EAGER_RUNS + 1)][-1] for number in range(MOST_GRAPHS + 3)]
    assert last == ["replayed"] * MOST_GRAPHS + ["eager"] * 3


def test_what_cannot_be_recorded_runs_on():
    refusing, forbidden, forgetful = Recorder(refuse=True), Recorder(), Recorder()
    compute = RepeatedShapes(lambda samples, lengths: "eager", refusing)
    assert {compute(row(1), LENGTHS) for _ in range(9)} == {"eager"} and not compute.may_record
    compute = RepeatedShapes(lambda samples, lengths: "eager", forbidden, may_record=False)
    assert {compute(row(1), LENGTHS) for _ in range(9)} == {"eager"} and forbidden.count == 0
    compute = RepeatedShapes(lambda samples, lengths: "eager", forgetful)
    assert [compute(row(1), LENGTHS) for _ in range(EAGER_RUNS + 1)][-1] == "replayed"
    compute.forget()
    assert {compute(row(1), LENGTHS) for _ in range(9)} == {"eager"}


class Stream:
    """Stands in for a CUDA stream, and for an event of one: on a CPU everything is done when a call returns."""

    def __init__(self, device=None):
        self.device = device

    def wait_stream(self, other):
        assert isinstance(other, Stream)

    def record(self, stream):
        assert isinstance(stream, Stream)

    def synchronize(self):
        events.append(self)


class Graph:
    """Stands in for a CUDA graph whose kernels are refused, or recorded and never started again."""

    refuses = True

    def pool(self):
        return "pool"

    def replay(self):
        events.append("replay")


@contextlib.contextmanager
def capture(graph, pool, stream, capture_error_mode):
    if Graph.refuses:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
    yield


def pageable(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype)


events: list = []


@pytest.fixture
def as_if_cuda(monkeypatch):
    """CUDA's names on a CPU, so that a queue for a GPU runs here."""
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: events.append("empty_cache"))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    monkeypatch.setattr(device_queue, "page_locked", pageable)
    events.clear()


@pytest.mark.parametrize("refuses", [True, False])
def test_a_queue_for_a_gpu_on_a_cpu(small, as_if_cuda, monkeypatch, refuses):
    """Embeddings, the batches that may be under way, what is recorded and what is given back."""
    monkeypatch.setattr(Graph, "refuses", refuses)
    extractor = load_extractor(small, "cpu", "float32", "torch")
    queue = CudaQueue(extractor.runner)
    rows = [0.1 * np.random.default_rng(count).standard_normal(count).astype(np.float32) for count in (4000, 3000)]
    plain = DirectQueue(extractor.runner).put(rows, 4080)
    tickets = [queue.put(rows, 4080) for _ in range(EAGER_RUNS + 2)]
    assert [event for event in events if isinstance(event, Stream)] == [done for _, done in tickets[:-AHEAD]]
    assert events.count("replay") == (0 if refuses else 2) and queue.compute.may_record != refuses
    for found in map(queue.take, tickets):
        np.testing.assert_array_equal(found, plain)
    queue.free()
    assert events[-2:] == ["synchronize", "empty_cache"] and not queue.compute.recorded and not queue.compute.may_record
    np.testing.assert_array_equal(queue.take(queue.put(rows, 4080)), plain)


def test_operations_by_hand(draw_network):
    """ECAPA's first convolution takes 5 frames of 20 bins to 16 channels, 2 * 5 * 20 * 16 a frame; per utterance
    only the layers behind the pooling."""
    config = ModelConfig(base_channels=16, embedding_dim=16, num_blocks=(1,), architecture="ecapa")
    network = prepare_for_inference(draw_network(config, 20), torch.device("cpu"), torch.float32)
    few, many = (operations_per_frame(network, torch.zeros(1, count, 20)) for count in (50, 100))
    stem, before, after = 5 * 20 * 16, 16 * 16, 16 * 16
    parts = 7 * 3 * 2 * 2
    aggregate, squeeze, excite = 16 * 48, 3 * 48 * 128, 128 * 48
    assert 2 * many - few == pytest.approx(2 * (stem + before + parts + after + aggregate + squeeze + excite))
    assert (few - many) * 100 == pytest.approx(2 * (16 * 128 * 2 + 2 * 48 * 16))
    assert not any(module._forward_hooks for module in network.modules())


def test_a_resnet34_is_counted_as_torch_counts_it(draw_network):
    """torch.utils.flop_counter has 36,215,357,440 for 800 frames of 80 bins, 4.5 GFLOP a second of audio."""
    network = draw_network(ModelConfig(), 80)
    assert operations_per_frame(network, torch.zeros(1, 80, 80)) == pytest.approx(36_215_357_440 / 800, rel=0.001)


def test_the_peak_is_measured():
    """A core multiplies between 0.01 and 100 TFLOP/s, whatever it is."""
    assert 1e8 < measure_peak(torch.device("cpu"), torch.float32, rows=64) < 1e14


def test_the_peak_where_memory_is_short(monkeypatch):
    """Smaller matrices, never a run that is lost for a figure."""
    tried, draw = [], torch.randn

    def draw_some(*shape, device):
        tried.append(shape[0])
        if shape[0] > 100:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return draw(*shape, device=device)

    monkeypatch.setattr(torch, "randn", draw_some)
    assert measure_peak(torch.device("cpu"), torch.float32, rows=256) > 1e8
    assert tried == [256, 128, 64, 64]


def test_float32_stays_float32_on_a_gpu():
    before = torch.backends.cudnn.allow_tf32
    try:
        device.keep_float32_exact(torch.device("cpu"))
        assert torch.backends.cudnn.allow_tf32 == before
        device.keep_float32_exact(torch.device("cuda"))
        assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision, least", [("float32", 0.999999), ("bfloat16", 0.999)])
def test_a_gpu_gives_the_cpus_embeddings(small, precision, least):
    """In many batches of few shapes, so that graphs are recorded and replayed."""
    generator = np.random.default_rng(1)
    utterances = [0.1 * generator.standard_normal(count).astype(np.float32)
                  for count in generator.integers(400, 60000, 300)]
    on_cpu = load_extractor(small, "cpu", "float32", "torch")
    batched = BatchedExtractor(load_extractor(small, "cuda", precision, "torch"), budget=2000)
    for _ in range(3):
        found = batched.embed(utterances)
    assert batched.queue.compute.recorded
    for samples, embedding in zip(utterances, found, strict=True):
        alone = on_cpu.embed_samples(samples, 16000)
        cosine = float(alone @ embedding / np.linalg.norm(alone) / np.linalg.norm(embedding))
        assert cosine >= least, len(samples)
