"""Short recordings, and commands run in a child that may be killed: forked, so that torch is loaded once."""

import os
import select
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or minus the signal that killed it, and what it said."""

    code: int
    err: str


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Ended]:
    """``command(main, *args, env={}, kill_after_s=None)`` runs a command's main in a process of its own."""

    def run(main: Callable, *args: object, env: dict | None = None, kill_after_s: float | None = None) -> Ended:
        talk = tmp_path / "stderr.txt"
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                os.setpgid(0, 0)
                signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
                descriptor = os.open(talk, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(descriptor, 2)
                os.dup2(descriptor, 1)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                os.environ.update(env or {})
                code = main([str(arg) for arg in args])
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        if kill_after_s is not None:
            ended = os.pidfd_open(pid)
            if not select.select([ended], [], [], kill_after_s)[0]:
                os.kill(pid, signal.SIGKILL)
            os.close(ended)
        _, status = os.waitpid(pid, 0)
        if kill_after_s is not None:
            for lock in tmp_path.rglob("*.lock"):  # killed between making it and saying whose it is: a person's to mend
                if not lock.stat().st_size:
                    lock.unlink()
        return Ended(os.waitstatus_to_exitcode(status), talk.read_text(encoding="utf-8"))

    return run


def write_wav(path: Path, seconds: float = 0.5, seed: int = 0, rate: int = 16000, channels: int = 1) -> Path:
    """Noise that swells, the same for the same seed."""
    generator = np.random.default_rng(seed)
    count = int(seconds * rate)
    swell = 0.1 + 0.2 * np.sin(np.linspace(0, 3, count))[:, None] ** 2
    soundfile.write(path, swell * generator.standard_normal((count, channels)).clip(-3, 3), rate, subtype="PCM_16")
    return path


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    """``make_data(utterances=8, **paths)`` writes a data directory of short recordings; a path given for an id
    stands in for its own."""

    def make(utterances: int = 8, name: str = "data", **paths: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "wav").mkdir()
        rows = {}
        for number in range(utterances):
            utt_id = f"s{number // 2}-u{number}"
            path = write_wav(folder / "wav" / f"{utt_id}.wav", 0.4 + 0.05 * (number % 5), number)
            rows[utt_id] = paths.get(utt_id.replace("-", "_"), path)
        (folder / "wav.scp").write_text("".join(f"{utt} {path}\n" for utt, path in rows.items()), encoding="utf-8")
        (folder / "utt2spk").write_text("".join(f"{utt} {utt.split('-')[0]}\n" for utt in rows), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def read_tree() -> Callable[[Path], dict[str, bytes]]:
    """``read_tree(folder)``: every file below it by name, but for manifests, which hold times, and temp files."""

    def read(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
                if path.is_file() and not path.name.endswith(".manifest.json")}

    return read


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an untrained network that is fast to run."""
    import torch

    from speakerkit.config import FbankConfig, ModelConfig
    from speakerkit.models import model_file, networks

    config = ModelConfig(base_channels=4, num_blocks=(1, 1, 1, 1), embedding_dim=16)
    fbank = FbankConfig(num_mel_bins=24)
    network = networks.make_network(config, fbank.num_columns)
    networks.initialise(network, torch.Generator().manual_seed(1))
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    model_file.save_model(path, network.eval(), model_file.ModelInfo("small", config, fbank))
    return path


@pytest.fixture
def extract_with(command, small_model):
    """``extract_with(nj)(data, ark, *options)`` extracts with the small model, in float32 unless told."""
    from speakerkit.cli.extract_embeddings import main

    def make(nj: int) -> Callable[..., Ended]:
        def run(data, emb_ark, *options, **how):
            # torch, for these commands run in a fork of the test process: ONNX Runtime's threads don't outlive a fork
            given = {"--model": small_model, "--precision": "float32", "--nj": nj, "--backend": "torch"}
            defaults = [word for name, value in given.items() if name not in options for word in (name, value)]
            return command(main, *defaults, *options, data / "wav.scp", emb_ark, **how)

        return run

    return make
