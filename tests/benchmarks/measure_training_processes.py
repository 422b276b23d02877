"""Samples a second of a training step, by the processes and threads that share it; alternating, medians.

The step is train-model's own, ResNet34 on random features and 8,379 classes. Where other programs take part of
the cores, threads that wait for each other lose far more than processes that meet once a step.
usage: measure_training_processes.py [--precision float32|bfloat16] [--batch-size N] [--frames N] [--repeats N]
       [--ways 1x2,2x1] (processes x threads)
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import torch
from torch import multiprocessing

from speakerkit.config import LossConfig, SystemConfig, TrainingConfig
from speakerkit.models import device
from speakerkit.models.networks import initialise, make_network
from speakerkit.training import loop, ranks
from speakerkit.training.aam_softmax import AamSoftmax
from speakerkit.training.checkpoint import TrainingState
from speakerkit.training.optimiser import make_optimiser

NUM_CLASSES = 8379


def step_when_told(rank, size, threads, args, meeting, asked, answers) -> None:
    """One of a way's processes: a step for each True, then its seconds; None ends it."""
    device.keep_freed_memory()
    torch.set_num_threads(threads)
    system = SystemConfig(training=TrainingConfig(batch_size=args.batch_size, num_steps=1000),
                          loss=LossConfig(margin=0.2))
    generator = torch.Generator().manual_seed(1)
    network = make_network(system.model, system.fbank.num_columns)
    initialise(network, generator)
    network = device.to_channels_last(network)
    loss = AamSoftmax(system.model.embedding_dim, NUM_CLASSES, 32.0, generator)
    state = TrainingState(network, loss, make_optimiser([network, loss], system.training))
    with ranks.join(rank, size, meeting, "cpu") as group:
        run = loop.Run(system, 1000, None, Path(), torch.device("cpu"), getattr(torch, args.precision), 0, 0, int, "",
                       False, ranks=group)  # fmt: skip
        share = len(group.share(args.batch_size))
        features = torch.randn(share, args.frames, system.fbank.num_columns, generator=generator)
        labels = torch.randint(NUM_CLASSES, (share,), generator=generator)
        while asked.get():
            began = time.perf_counter()
            loop.train_step(state, run, features, labels)
            answers.put(time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", default="1x2,2x1", metavar="PxT,...", help="processes x threads of each way")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    taken: dict[str, list[float]] = {}
    with ranks.meeting_place() as meeting:
        groups = {}
        for way in args.ways.split(","):
            size, threads = map(int, way.split("x"))
            groups[way] = [context.Queue() for _ in range(size)]
            for rank, asked in enumerate(groups[way]):
                words = (rank, size, threads, args, f"{meeting}-{way}", asked, answers)
                context.Process(target=step_when_told, args=words, daemon=True).start()
        for turn in range(args.repeats + 1):
            for way, queues in groups.items():
                for asked in queues:
                    asked.put(True)
                seconds = max(answers.get() for _ in queues)
                if turn:
                    taken.setdefault(way, []).append(seconds)
        for asked in [asked for queues in groups.values() for asked in queues]:
            asked.put(None)
    print(f"{args.precision}, batch of {args.batch_size} x {args.frames} frames, {device.describe_cpu()}, "
          f"load {os.getloadavg()[0]:.1f}, medians of {args.repeats}\n")
    print("| processes x threads | s a step | samples/s |\n|---|---|---|")
    for way, seconds in taken.items():
        median = statistics.median(seconds)
        print(f"| {way} | {median:.2f} | {args.batch_size / median:.1f} |")


if __name__ == "__main__":
    main()
