"""Training samples made by one process: read, speed, noise or room, fbank. Prints seconds for COUNT of them.

usage: our_samples.py DATA_DIR CONFIG COUNT
"""

import json
import sys
import time

import torch

from speakerkit.config import read_system
from speakerkit.io.audio import AudioOptions
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.models import device
from speakerkit.training import setup
from speakerkit.training.chunks import TrainingBatches
from speakerkit.training.sampling import BatchSampler


def main(data_dir: str, config: str, count: str) -> None:
    torch.set_num_threads(1)
    device.keep_freed_memory()  # as train-model does before its workers start
    system = read_system(config)
    chunks = setup.make_chunks(data_dir, system, AudioOptions(min_duration_s=0.05), BadRecordings(data_dir), show=False)
    sampler = BatchSampler(chunks.labels, system.training.batch_size, system.training.sampling, seed=1)
    batches = TrainingBatches(chunks, sampler, system.model.mean_norm)
    batches[0]
    steps = -(-int(count) // system.training.batch_size)
    began = time.perf_counter()
    for step in range(1, steps + 1):
        batches[step]
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds * int(count) / (steps * system.training.batch_size)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
