"""Several processes on one batch: the same samples, the sum of their gradients, and no end that loses work."""

import contextlib
import copy
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from speakerkit.errors import ConfigError, DataError
from speakerkit.io.audio import AudioOptions
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.models import model_file
from speakerkit.models.networks import initialise, make_network
from speakerkit.training import checkpoint, loop, ranks, setup, train
from speakerkit.training.aam_softmax import AamSoftmax
from speakerkit.training.chunks import TrainingBatches
from speakerkit.training.optimiser import make_optimiser
from speakerkit.training.sampling import BatchSampler

LONG = {"num_steps": 60, "average_from": 1.0, "checkpoint_interval": 10, "log_interval": 20}
SHORT = {"num_steps": 2, "average_from": 1.0}
TRAIN = "import sys; from speakerkit.cli.train_model import main; sys.exit(main(sys.argv[1:]))"


def run(train_dir, exp_dir, system, **options):
    """One run in this process and those it starts, float32, one thread each."""
    chosen = train.TrainOptions(**({"device": "cpu", "precision": "float32", "nj": 1, "show": False} | options))
    train.train_model(train_dir, exp_dir, system, chosen, AudioOptions(), lambda total: 0, {})


def weights(exp_dir):
    return model_file.load_model(exp_dir / "model.safetensors").info.weights_sha256


class Threads(ranks.Ranks):
    """Ranks that are threads of this process: the sum is made where all meet."""

    def __init__(self, rank, size, barrier, place):
        super().__init__(rank, size)
        self.barrier, self.place = barrier, place

    def sum_(self, tensors):
        self.place[self.rank] = [t.clone() for t in tensors]
        self.barrier.wait()
        for number, tensor in enumerate(tensors):
            tensor.copy_(torch.stack([self.place[r][number] for r in range(self.size)]).sum(dim=0))
        self.barrier.wait()


def make_state(system, num_classes):
    generator = torch.Generator().manual_seed(3)
    network = make_network(system.model, system.fbank.num_columns)
    initialise(network, generator)
    loss = AamSoftmax(16, num_classes, 32.0, generator)
    return checkpoint.TrainingState(network, loss, make_optimiser([network, loss], system.training))


def make_run(system, batches, group):
    return loop.Run(system, 12, batches, Path("exp"), torch.device("cpu"), torch.float32, 0, 16, lambda n: 0, "train",
                    False, ranks=group)  # fmt: skip


@pytest.mark.parametrize("size", [2, 3])
def test_shares_are_the_batch(train_dir, make_system, size):
    system = make_system(batch_size=7)
    chunks = setup.make_chunks(train_dir, system, AudioOptions(), BadRecordings("x"), False)
    batches = TrainingBatches(chunks, BatchSampler(chunks.labels, 7, "uniform", seed=1), mean_norm=True)
    whole, labels, _ = batches[5]
    parts = [batches.of_places(ranks.Ranks(r, size).share(7))[5] for r in range(size)]
    # Chunks are computed a few together, others in a share than in the batch: the same but for rounding.
    torch.testing.assert_close(torch.cat([p[0] for p in parts]), whole, rtol=0, atol=1e-4)
    assert torch.equal(torch.cat([p[1] for p in parts]), labels)


def test_a_shared_step_is_that_of_the_mean_of_the_shares_losses(make_system):
    system = make_system(batch_size=7, average_from=1.0, gradient_clip=0.0)
    features = torch.randn(7, 40, 24, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    states = [make_state(system, 4) for _ in range(2)]
    plain = copy.deepcopy(states[0])

    barrier, place, values = threading.Barrier(2), {}, {}

    def work(rank):
        group = Threads(rank, 2, barrier, place)
        part = list(group.share(7))
        values[rank] = loop.train_step(states[rank], make_run(system, None, group), features[part], labels[part])

    threads = [threading.Thread(target=work, args=(r,)) for r in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # The plain way: the loss of each share by itself, weighted by its size; batch norm sees a share at a time.
    twin = copy.deepcopy(plain.network)
    first, second = plain.network.train(), twin.train()
    losses = [plain.loss(n(features[a:b]), labels[a:b], 0.0)[0] for n, a, b in ((first, 0, 3), (second, 3, 7))]
    (losses[0] * 3 / 7 + losses[1] * 4 / 7).backward()
    for ours, one, two in zip(states[0].network.parameters(), first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, one.grad + two.grad, rtol=1e-4, atol=1e-6)
    assert values[0] == values[1]
    assert values[0]["loss"] == pytest.approx((losses[0] * 3 / 7 + losses[1] * 4 / 7).item(), rel=1e-5)
    for a, b in zip(states[0].tensors().values(), states[1].tensors().values(), strict=True):
        assert torch.equal(a, b)  # weights, momentum and statistics: nothing drifts apart
    pairs = zip(states[0].network.named_buffers(), first.buffers(), second.buffers(), strict=True)
    for (name, ours), one, two in pairs:
        if "running" in name:  # the mean of what the shares have seen, by their sizes
            torch.testing.assert_close(ours, one * 3 / 7 + two * 4 / 7, rtol=1e-4, atol=1e-6)


@pytest.fixture
def command(train_dir, make_system, toml, tmp_path):
    """``command(exp_dir)``: the words that train sixty steps in two processes."""
    (tmp_path / "system.toml").write_text(toml(make_system(**LONG)))

    def make(exp_dir, *more):
        return [sys.executable, "-c", TRAIN, "--config", str(tmp_path / "system.toml"), "--device", "cpu", "--nj=2",
                "--precision", "float32", "--num-processes", "2", *more, str(train_dir), str(exp_dir)]

    return make


def children_of(pid: int) -> dict[int, str]:
    """Command lines of the living processes that a process has started, and those that they have started."""
    found = {}
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, path.read_text().split()):
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                found |= children_of(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def end_one(words, exp_dir, which, signum):
    """Start a run, wait for a new checkpoint, send a signal; (exit code, stderr, pids that are left of it)."""
    before = set(exp_dir.glob("checkpoints/*"))
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not set(exp_dir.glob("checkpoints/*.safetensors")) - before:
        time.sleep(0.005)
    family = children_of(process.pid)
    target = process.pid if which == "first" else next(p for p, line in family.items() if "spawn_main" in line)
    os.kill(target, signum)
    told = process.communicate()[1]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and any(map(is_alive, family)):
        time.sleep(0.02)
    return process.returncode, told, [line for pid, line in family.items() if is_alive(pid)]


@pytest.mark.timeout(900)  # eight processes import torch one after another; on busy cores that takes minutes
def test_whoever_is_killed_the_run_ends_at_once_and_goes_on_exactly(command, train_dir, make_system, tmp_path):
    system, exp_dir = make_system(**LONG), tmp_path / "exp"
    code, told, left = end_one(command(exp_dir), exp_dir, "second", signal.SIGKILL)
    assert code == 75 and not left, told
    assert "2 processes" in told and "Traceback" not in told
    last = told.splitlines()[-1]
    assert last.startswith("train-model: training process 2 of 2 (pid ") and "was killed by signal 9" in last

    code, told, left = end_one(command(exp_dir), exp_dir, "second", signal.SIGTERM)
    assert code == 143 and not left, told
    assert "the same command goes on from there" in told

    code, told, left = end_one(command(exp_dir), exp_dir, "first", signal.SIGKILL)
    assert code == -signal.SIGKILL and not left, told

    assert not (exp_dir / "model.safetensors").exists()
    run(train_dir, exp_dir, system, nj=2)  # the number of processes is the run's
    run(train_dir, tmp_path / "straight", system, nj=2, num_processes=2)
    assert weights(exp_dir) == weights(tmp_path / "straight")


def test_processes_of_a_launcher_train_the_same(train_dir, make_system, toml, command, tmp_path):
    run(train_dir, tmp_path / "started", make_system(**SHORT), nj=2, num_processes=2)
    (tmp_path / "system.toml").write_text(toml(make_system(**SHORT)))
    words = [word for word in command(tmp_path / "launched") if word not in ("--num-processes", "2")]
    with ranks.meeting_place(), socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        server.close()
        place = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        both = [subprocess.Popen(words, env=place | {"RANK": str(r)}, stderr=subprocess.PIPE, text=True)
                for r in (0, 1)]
        told = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[1] == ""  # the first speaks for all
    assert weights(tmp_path / "launched") == weights(tmp_path / "started")


def test_a_started_run_keeps_its_number_of_processes(train_dir, make_system, tmp_path):
    run(train_dir, tmp_path / "exp", make_system(num_steps=2))
    run(train_dir, tmp_path / "exp", make_system(num_steps=2), nj=8)  # nothing to do
    with pytest.raises(ConfigError, match="num_processes is 1 there, 2 here"):
        run(train_dir, tmp_path / "exp", make_system(num_steps=2), num_processes=2)


@pytest.mark.parametrize("batch_size, nj, size", [(64, 8, 2), (32, 8, 1), (256, 4, 4), (128, 64, 4), (8, 4, 1)])
def test_processes_that_are_chosen_get_32_samples_or_more(make_system, tmp_path, batch_size, nj, size):
    options = train.TrainOptions(device="cpu", nj=nj)
    assert train._count_processes(tmp_path, make_system(batch_size=batch_size), options) == size


def test_a_share_of_one_sample_is_refused(train_dir, make_system, tmp_path):
    with pytest.raises(ConfigError, match="batch_size 4 is too small for 3 processes; want 2 samples or more for each"):
        run(train_dir, tmp_path / "exp", make_system(), num_processes=3)
    assert not (tmp_path / "exp" / "run.json").exists()


@pytest.mark.parametrize("values, message", [
    ({"RANK": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}, "RANK is 2 with WORLD_SIZE 2; want 0 to 1"),
    ({"RANK": "first"}, "RANK, WORLD_SIZE or LOCAL_RANK of the environment: invalid literal"),
    ({"RANK": "0"}, "RANK and WORLD_SIZE are set in the environment but MASTER_ADDR isn't"),
])
def test_a_launchers_environment_is_judged(train_dir, make_system, tmp_path, monkeypatch, values, message):
    for name, value in ({"WORLD_SIZE": "2"} | values).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        run(train_dir, tmp_path / "exp", make_system())


@pytest.mark.parametrize("size", [1, 2])
def test_an_error_where_batches_are_made_is_told_as_it_is(train_dir, make_system, tmp_path, size):
    system = make_system(num_steps=4)
    lines = (train_dir / "wav.scp").read_text().splitlines()
    cut = tmp_path / "cut.flac"
    with open(lines[0].split()[1], "rb") as stream:
        cut.write_bytes(stream.read()[:3000])  # its header is whole: this shows only when a chunk of it is read
    (train_dir / "wav.scp").write_text("".join(f"{line.split()[0]} {cut}\n" for line in lines))
    with pytest.raises(DataError, match="20 recordings drawn one after another can't be read"):
        run(train_dir, tmp_path / "exp", system, num_processes=size)


def test_alone_nothing_is_exchanged():
    alone, tensor = ranks.Ranks(), torch.tensor([1.0, 2.0])
    alone.sum_([tensor])
    assert tensor.tolist() == [1.0, 2.0]
    assert alone.any_of(True, False) == [True, False]
    assert alone.gather([1]) == [1] and alone.tell("x") == "x"
    assert np.array_equal(np.array(alone.share(5)), np.arange(5))
