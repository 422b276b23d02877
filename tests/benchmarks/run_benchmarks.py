"""Speed of features, extraction and scoring, side by side with the usual ways: `make bench`.

Workloads alternate, so that a machine whose speed drifts slows all of them; medians and ratios are
printed as a Markdown table. Nothing here is a test: it runs on an idle machine, for some minutes.
usage: run_benchmarks.py [--speech-dir DIR] [--utterances N] [--repeats N]
"""

import argparse
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

from speakerkit import __version__
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.features.fbank import compute_fbank
from speakerkit.inference.backends import is_installed
from speakerkit.io.ark import ArkWriter
from speakerkit.models import device, model_file
from speakerkit.models.resnet import initialise, make_network

HERE = Path(__file__).resolve().parent
SECONDS = 4.0
ENROLMENTS, TESTS, PLAIN_SHARE = 196, 17777, 20  # CN-Celeb-eval's size; the plain loop gets a twentieth


def median_seconds(workloads: dict, repeats: int) -> dict[str, float]:
    """Median wall time of each, called in turn, after one warm-up round."""
    taken: dict[str, list[float]] = {name: [] for name in workloads}
    for turn, (name, work) in itertools.product(range(repeats + 1), workloads.items()):
        began = time.perf_counter()
        work()
        if turn:
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def write_utterances(folder: Path, speech_dir: str | None, count: int) -> Path:
    """``count`` utterances of 2 to 6 s, 4 s on average: real ones joined and cut, or artificial noise."""
    paths = sorted(Path(speech_dir).glob("*/*.flac"))[: 2 * count] if speech_dir else []
    pool = [soundfile.read(path, dtype="float32")[0] for path in paths]
    pool = pool or [0.1 * np.random.default_rng(1).standard_normal(16000 * 60).astype(np.float32)]
    stream, lines = np.concatenate(pool), []
    for number in range(count):
        length = int(SECONDS * 16000 * (0.5 + number * 37 % count / count))
        start = number * length % max(1, len(stream) - length)
        path = folder / f"utt{number:05d}.wav"
        soundfile.write(path, stream[start : start + length], 16000, subtype="PCM_16")
        lines.append(f"utt{number:05d} {path}\n")
    (folder / "wav.scp").write_text("".join(lines), encoding="utf-8")
    return folder / "wav.scp"


def bench_fbank(repeats: int) -> list[tuple]:
    """One thread, audio in memory."""
    torch.set_num_threads(1)
    samples = torch.from_numpy(np.random.default_rng(1).standard_normal(64000).astype(np.float32) * 0.1)
    workloads = {"compute_fbank": lambda: [compute_fbank(samples, FbankConfig()) for _ in range(50)]}
    try:
        from torchaudio.compliance import kaldi

        workloads["torchaudio compliance.kaldi.fbank"] = lambda: [
            kaldi.fbank(samples[None] * 32768, num_mel_bins=80) for _ in range(50)]
    except (ImportError, OSError, RuntimeError) as error:
        print(f"torchaudio doesn't load here ({type(error).__name__}): left out", file=sys.stderr)
    seconds = median_seconds(workloads, repeats)
    return [("fbank, 1 thread", name, f"{50 * SECONDS / s:,.0f} x real time", s / seconds["compute_fbank"])
            for name, s in seconds.items()]


def make_model(folder: Path) -> Path:
    """A ResNet34 of 6.63 M parameters with random weights: its speed is that of any."""
    config = ModelConfig()
    network = make_network(config, 80).eval()
    initialise(network, torch.Generator().manual_seed(1))
    model = folder / "resnet34.safetensors"
    model_file.save_model(model, network, model_file.ModelInfo(name="bench", model=config, fbank=FbankConfig()))
    return model


def ways_to_run() -> list[tuple[str, str]]:
    """(backend, precision) of everything that is installed and worth it here."""
    ways = [("torch", "float32"), ("onnx", "float32"), ("openvino", "float32")]
    if device.cpu_has_bfloat16():
        ways += [("torch", "bfloat16"), ("openvino", "bfloat16")]
    return [way for way in ways if is_installed(way[0])]


def bench_extraction(folder: Path, model: Path, wav_scp: Path, count: int, repeats: int) -> list[tuple]:
    """Whole processes, start-up included, one worker a core."""
    command = [Path(sys.executable).parent / "extract-embeddings", "--quiet", "--device", "cpu", "--model", model]

    def ours(backend: str, precision: str) -> None:
        for old in folder.glob("ours.*"):
            old.unlink()
        run(*command, "--backend", backend, "--precision", precision, wav_scp, folder / "ours.ark")

    workloads = {f"extract-embeddings, {backend}, {precision}": partial(ours, backend, precision)
                 for backend, precision in ways_to_run()}
    workloads["plain loop, float32, 1 thread"] = lambda: run(sys.executable, HERE / "plain_extraction.py", model,
                                                             wav_scp, folder / "plain.ark")
    seconds = median_seconds(workloads, repeats)
    first = seconds["extract-embeddings, torch, float32"]
    return [(f"extraction, {count} x {SECONDS:g} s", name, f"{count * SECONDS / s:,.0f} x real time", s / first)
            for name, s in seconds.items()]


def bench_start(model: Path, wav_scp: Path, repeats: int) -> list[tuple]:
    """Two recordings verified by a process of its own: processor time, and the memory it took at most."""
    first, second = [line.split()[1] for line in wav_scp.read_text(encoding="utf-8").splitlines()[:2]]
    command = [str(Path(sys.executable).parent / "verify-speakers"), "--quiet", "--model", str(model), first, second]
    spent: dict[str, list[tuple[float, int]]] = {}
    for _, (backend, precision) in itertools.product(range(repeats + 1), ways_to_run()):
        process = subprocess.Popen([*command, "--backend", backend, "--precision", precision],
                                   stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        spent.setdefault(f"{backend}, {precision}", []).append((usage.ru_utime + usage.ru_stime, usage.ru_maxrss))
    seconds = {name: statistics.median(time for time, _ in runs[1:]) for name, runs in spent.items()}
    memory = {name: max(kib for _, kib in runs) / 1024 for name, runs in spent.items()}
    return [("verify-speakers, 2 recordings", name, f"{s:.2f} s of processor, {memory[name]:.0f} MB",
             s / seconds["torch, float32"]) for name, s in seconds.items()]


def write_trials(folder: Path) -> tuple[Path, Path]:
    """Embeddings and labelled trials of CN-Celeb-eval's size, and a share of them for the plain loop."""
    generator = np.random.default_rng(1)
    enrol = [f"id{800 + n:05d}-enroll" for n in range(ENROLMENTS)]
    tests = [f"id{800 + n % ENROLMENTS:05d}-speech-01-{n:05d}" for n in range(TESTS)]
    with ArkWriter(folder / "all.ark", folder / "all.scp") as writer:
        for utt_id in enrol + tests:
            writer.write(utt_id, generator.standard_normal(256).astype(np.float32))
    full, part = folder / "trials", folder / "trials.part"
    with open(full, "w", encoding="utf-8") as everything, open(part, "w", encoding="utf-8") as share:
        for number, enrol_id in enumerate(enrol):
            text = "".join(f"{enrol_id} {t} {'target' if t[:7] == enrol_id[:7] else 'nontarget'}\n" for t in tests)
            everything.write(text)
            if number % PLAIN_SHARE == 0:
                share.write(text)
    return full, part


def bench_scoring(folder: Path, repeats: int) -> list[tuple]:
    """Text trials in; scores as text and metrics out."""
    full, part = write_trials(folder)
    share = len(range(0, ENROLMENTS, PLAIN_SHARE)) / ENROLMENTS
    score = [Path(sys.executable).parent / "score-trials", "--quiet", full, folder / "all.ark", "--output"]

    def ours() -> None:
        for old in folder.glob("scores*"):
            old.unlink()
        run(*score, folder / "scores")

    seconds = median_seconds(
        {"score-trials, with metrics": ours,
         "plain loop, without metrics (scaled)": lambda: run(sys.executable, HERE / "plain_scoring.py", part,
                                                             folder / "all.ark", folder / "plain.scores")}, repeats)
    seconds["plain loop, without metrics (scaled)"] /= share
    count = ENROLMENTS * TESTS
    return [(f"scoring, {count:,} trials", name, f"{s:.2f} s", s / seconds["score-trials, with metrics"])
            for name, s in seconds.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--speech-dir", help="real recordings, DIR/SPEAKER/UTT.flac; without it noise is extracted")
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = bench_fbank(args.repeats)
        model, wav_scp = make_model(folder), write_utterances(folder, args.speech_dir, args.utterances)
        rows += bench_extraction(folder, model, wav_scp, args.utterances, args.repeats)
        rows += bench_start(model, wav_scp, args.repeats)
        rows += bench_scoring(folder, args.repeats)
    print(f"speakerkit {__version__}, torch {torch.__version__}, {device.describe_device(torch.device('cpu'))}, "
          f"{len(os.sched_getaffinity(0))} cores, {platform.platform()}; medians of {args.repeats}\n")
    print("| workload | implementation | speed | time, of ours |\n|---|---|---|---|")
    for workload, implementation, speed, ratio in rows:
        print(f"| {workload} | {implementation} | {speed} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
