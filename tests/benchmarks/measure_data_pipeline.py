"""Samples a second that one data worker makes for training, by where they come from and what is done to them.

Stages alternate, and the median of their turns stands, so a machine whose speed drifts slows all of them. One
thread; by the clock and by processor time, which differ where other programs take the cores. Batches come from
wav or flac files, from the same recordings packed, and from stored features.
usage: measure_data_pipeline.py TRAIN_DIR [--frames N] [--batch-size N] [--repeats N] [--noise-scp F] [--response-scp F]
TRAIN_DIR holds wav.scp and utt2spk. Noise or reverberation has probability 0.6, as in WeSpeaker's recipes.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from speakerkit.cli import make_fbank
from speakerkit.config import AugmentationConfig, SystemConfig, TrainingConfig
from speakerkit.io.audio import AudioOptions
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.models import device
from speakerkit.training import setup
from speakerkit.training.chunks import TrainingBatches
from speakerkit.training.sampling import BatchSampler

ROOT = Path(__file__).resolve().parents[2]
EITHER = 1 - 0.4**0.5  # two independent disturbances, one or both with probability 0.6


def stages(noise_scp: str, response_scp: str) -> dict[str, dict]:
    """[augmentation] of each stage."""
    scps = {"noise_scp": noise_scp, "response_scp": response_scp}
    return {
        "read, chunk, fbank": {"speeds": (1.0,)},
        "+ speed 0.9/1/1.1": {"speeds": (0.9, 1.0, 1.1)},
        "+ noise or reverberation": {"speeds": (1.0,), "noise": EITHER, "reverberation": EITHER, **scps},
        "all": {"speeds": (0.9, 1.0, 1.1), "noise": EITHER, "reverberation": EITHER, **scps},
    }


def make_batches(folder: Path, augmentation: dict, args: argparse.Namespace) -> TrainingBatches:
    system = SystemConfig(augmentation=AugmentationConfig(**augmentation),
                          training=TrainingConfig(batch_size=args.batch_size, chunk_frames=args.frames))
    chunks = setup.make_chunks(folder, system, AudioOptions(), BadRecordings("none"), False)
    return TrainingBatches(chunks, BatchSampler(chunks.labels, args.batch_size, "uniform", 1), True)


def other_forms(train_dir: Path, folder: Path) -> tuple[Path, Path]:
    """The same recordings packed, and as stored features at three speeds."""
    sys.path.insert(0, str(ROOT / "local"))
    import pack_audio

    packed, stored = folder / "packed", folder / "stored"
    packed.mkdir()
    for name in ("wav.scp", "utt2spk"):
        (packed / name).write_bytes((train_dir / name).read_bytes())
    assert pack_audio.main(["--quiet", str(packed)]) == 0
    assert make_fbank.main(["--quiet", "--nj", "1", "--speeds", "0.9,1.0,1.1", "--output-dir", str(stored),
                            str(train_dir)]) == 0  # fmt: skip
    return packed, stored


def measure(workloads: dict[str, TrainingBatches], repeats: int) -> dict[str, tuple[float, float]]:
    """Samples a second by the clock and by processor time: medians over turns of two batches each."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in workloads}
    for turn in range(repeats + 1):
        for name, batches in workloads.items():
            clock, processor = time.perf_counter(), time.process_time()
            count = sum(len(batches.batch(2 * turn + n)[1]) for n in range(2))
            if turn:
                taken[name].append((count / (time.perf_counter() - clock), count / (time.process_time() - processor)))
    return {name: tuple(map(statistics.median, zip(*values, strict=True))) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("train_dir", type=Path)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--noise-scp", default="", help="recorded noises (default: made ones)")
    parser.add_argument("--response-scp", default="", help="recorded room responses (default: made ones)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    device.keep_freed_memory()  # as train-model does before its workers start
    augmentations = stages(args.noise_scp, args.response_scp)
    with tempfile.TemporaryDirectory() as name:
        packed, stored = other_forms(args.train_dir, Path(name))
        workloads = {f"files | {stage}": make_batches(args.train_dir, a, args) for stage, a in augmentations.items()}
        workloads |= {f"packed | {stage}": make_batches(packed, augmentations[stage], args)
                      for stage in ("read, chunk, fbank", "all")}
        workloads["features | stored at three speeds"] = make_batches(stored, {}, args)
        found = measure(workloads, args.repeats)
    print(f"chunks of {args.frames} frames, one worker, {device.describe_cpu()}, medians of {args.repeats} turns\n")
    print("| from | stage | samples/s | samples a second of processor |\n|---|---|---|---|")
    for workload, (clock, processor) in found.items():
        print(f"| {workload} | {clock:.0f} | {processor:.0f} |")


if __name__ == "__main__":
    main()
