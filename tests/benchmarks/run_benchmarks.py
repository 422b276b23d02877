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
from pathlib import Path

import numpy as np
import soundfile
import torch

from speakerkit import __version__
from speakerkit.config import FbankConfig, ModelConfig
from speakerkit.features.fbank import compute_fbank
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
    """``count`` utterances of 4 s: real ones joined and cut, or artificial noise where there are none."""
    pool = [soundfile.read(path, dtype="float32")[0] for path in sorted(Path(speech_dir).glob("*/*.flac"))[: 2 * count]
            ] if speech_dir else [np.random.default_rng(1).standard_normal(16000 * 60).astype(np.float32) * 0.1]
    stream, length = np.concatenate(pool), int(SECONDS * 16000)
    lines = []
    for number in range(count):
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


def bench_extraction(folder: Path, speech_dir: str | None, count: int, repeats: int) -> list[tuple]:
    """Whole processes, start-up included, a ResNet34 of 6.63 M parameters with random weights."""
    config = ModelConfig()
    network = make_network(config, 80).eval()
    initialise(network, torch.Generator().manual_seed(1))
    model = folder / "resnet34.safetensors"
    model_file.save_model(model, network, model_file.ModelInfo(name="bench", model=config, fbank=FbankConfig()))
    wav_scp = write_utterances(folder, speech_dir, count)
    command = [Path(sys.executable).parent / "extract-embeddings", "--quiet", "--device", "cpu", "--model", model]

    def ours(precision: str) -> None:
        for old in folder.glob(f"{precision}.*"):
            old.unlink()
        run(*command, "--precision", precision, wav_scp, folder / f"{precision}.ark")

    workloads = {"extract-embeddings, float32": lambda: ours("float32"),
                 "plain loop, float32, 1 thread": lambda: run(sys.executable, HERE / "plain_extraction.py", model,
                                                              wav_scp, folder / "plain.ark")}
    if device.has_fast_bfloat16(torch.device("cpu")):
        workloads["extract-embeddings, bfloat16"] = lambda: ours("bfloat16")
    seconds = median_seconds(workloads, repeats)
    first = seconds["extract-embeddings, float32"]
    return [(f"extraction, {count} x {SECONDS:g} s", name, f"{count * SECONDS / s:,.0f} x real time", s / first)
            for name, s in seconds.items()]


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
        rows += bench_extraction(folder, args.speech_dir, args.utterances, args.repeats)
        rows += bench_scoring(folder, args.repeats)
    print(f"speakerkit {__version__}, torch {torch.__version__}, {device.describe_device(torch.device('cpu'))}, "
          f"{len(os.sched_getaffinity(0))} cores, {platform.platform()}; medians of {args.repeats}\n")
    print("| workload | implementation | speed | time, of ours |\n|---|---|---|---|")
    for workload, implementation, speed, ratio in rows:
        print(f"| {workload} | {implementation} | {speed} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
