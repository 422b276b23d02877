"""Training samples made by WeSpeaker's dataset in one worker. Prints seconds for COUNT of them.

Its own code from the checkout, whose package __init__ is skipped; where sox's library is missing, speed
perturbation is left out and said.
usage: wespeaker_samples.py CHECKOUT raw.list noise.scp response.scp FOLDER COUNT BATCH
"""

import json
import pickle
import sys
import time
import types
from pathlib import Path


def write_lmdb(scp: str, target: Path) -> str:
    """The recordings of a wav.scp as its recipes' make_lmdb writes them: key -> the file's bytes."""
    import lmdb

    with open(scp, encoding="utf-8") as lines:
        rows = [line.split() for line in lines]
    with lmdb.open(str(target), map_size=1 << 34) as database, database.begin(write=True) as transaction:
        for key, path in rows:
            transaction.put(key.encode(), Path(path).read_bytes())
        transaction.put(b"__keys__", pickle.dumps([key for key, _ in rows]))
    return str(target)


def has_sox() -> bool:
    import torch
    import torchaudio

    try:
        torchaudio.sox_effects.apply_effects_tensor(torch.zeros(1, 160), 16000, [["speed", "0.9"], ["rate", "16000"]])
    except (RuntimeError, ImportError, OSError, AttributeError):
        return False
    return True


def main(checkout: str, raw_list: str, noise_scp: str, response_scp: str, folder: str, count: str, batch: str) -> None:
    import torch

    package = types.ModuleType("wespeaker")
    package.__path__ = [str(Path(checkout) / "wespeaker")]
    sys.modules["wespeaker"] = package
    sys.path.insert(0, checkout)
    from wespeaker.dataset.dataset import Dataset

    torch.set_num_threads(1)
    speakers = sorted({json.loads(line)["spk"] for line in Path(raw_list).read_text(encoding="utf-8").splitlines()})
    speed = has_sox()
    options = {"shuffle": False, "filter": True, "filter_args": {"min_num_frames": 50, "max_num_frames": 800},
               "resample_rate": 16000, "speed_perturb": speed, "num_frms": 200, "aug_prob": 0.6,
               "fbank_args": {"num_mel_bins": 80, "frame_shift": 10, "frame_length": 25, "dither": 1.0}}
    dataset = Dataset("raw", raw_list, options, {name: number for number, name in enumerate(speakers)},
                      reverb_lmdb_file=write_lmdb(response_scp, Path(folder) / "response.lmdb"),
                      noise_lmdb_file=write_lmdb(noise_scp, Path(folder) / "noise.lmdb"))
    steps = -(-int(count) // int(batch))
    loader = iter(torch.utils.data.DataLoader(dataset, batch_size=int(batch), num_workers=1, prefetch_factor=2))
    for _ in range(4):  # the worker and its queue are up and full
        next(loader)
    began = time.perf_counter()
    for _ in range(steps):
        next(loader)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds * int(count) / (steps * int(batch)), "speed_perturbation": speed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
