"""Batches on the device: made ahead by worker processes, copied ahead while a step runs, in time for the next."""

from collections.abc import Iterator

import torch

from speakerkit.config import FbankConfig
from speakerkit.errors import ConfigError
from speakerkit.features.fbank import compute_fbank
from speakerkit.training.chunks import FeatureChunks, TrainingBatches, start_worker


def feed(
    batches: TrainingBatches, first: int, last: int, num_workers: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, list]]:
    """Batches of steps first..last - 1, in order, on the device.

    Args:
        num_workers: processes that make them; 0: this one.

    Returns:
        features (batch, chunk_frames, bins) float32, classes (batch,), bad recordings, of each.

    Raises:
        DataError, MachineError: what went wrong where they are made.
    """
    loader = torch.utils.data.DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, last),
        num_workers=num_workers,
        worker_init_fn=start_worker,
        pin_memory=device.type == "cuda",
        **({"prefetch_factor": 4} if num_workers else {}),
    )
    copied = (_copy(batch, device) for batch in loader)
    for inputs, classes, bad in _ahead(copied, device) if device.type == "cuda" else copied:
        yield to_features(inputs, batches), classes, bad


def _copy(batch: object, device: torch.device) -> tuple:
    """A batch of a worker on the device; an exception that it sent is raised."""
    if isinstance(batch, Exception):
        raise batch
    inputs, classes, bad = batch
    if isinstance(inputs, torch.Tensor):
        inputs = inputs.to(device, non_blocking=True)
    else:
        inputs = inputs[0].to(device, non_blocking=True), inputs[1]
    return inputs, classes.to(device, non_blocking=True), bad


def _ahead(copied: Iterator[tuple], device: torch.device) -> Iterator[tuple]:
    """The same, the next batch's copy under way on a stream of its own while the device computes with this one."""
    stream, waiting = torch.cuda.Stream(device), None
    while True:
        with torch.cuda.stream(stream):
            following = next(copied, None)
        if waiting is not None:
            yield waiting
        if following is None:
            return
        torch.cuda.current_stream(device).wait_stream(stream)
        tensors = [following[0] if isinstance(following[0], torch.Tensor) else following[0][0], following[1]]
        for tensor in tensors:  # its memory may be used again only when the step is through with it
            tensor.record_stream(torch.cuda.current_stream(device))
        waiting = following


def to_features(inputs, batches: TrainingBatches) -> torch.Tensor:
    """(batch, chunk_frames, bins) float32 of what a worker sent: that itself, or samples and their warps."""
    if isinstance(inputs, torch.Tensor):
        return inputs
    samples, warps = inputs
    features = samples_to_features(samples, warps, batches.chunks.fbank)
    return features - features.mean(dim=1, keepdim=True) if batches.mean_norm else features


def samples_to_features(samples: torch.Tensor, warps: tuple[float, ...], fbank: FbankConfig) -> torch.Tensor:
    """Features of a batch where the samples are, by the arithmetic of the workers.

    Args:
        samples: (batch, num_samples) float32 in [-1, 1].
        warps: of the vocal tract, of each.
    """
    if len(set(warps)) == 1:
        return compute_fbank(samples, fbank, vtln_warp=warps[0])
    parts = {warp: [n for n, w in enumerate(warps) if w == warp] for warp in sorted(set(warps))}
    order = torch.tensor([n for part in parts.values() for n in part], device=samples.device)
    features = torch.cat([compute_fbank(samples[torch.tensor(part, device=samples.device)], fbank, vtln_warp=warp)
                          for warp, part in parts.items()])  # fmt: skip
    return features[order.argsort()]


def check_features_on(chunks, where: str) -> None:
    """Only recordings become features while training, and dither is drawn in the workers.

    Raises:
        ConfigError: features_on can't be what it is.
    """
    if where == "device" and isinstance(chunks, FeatureChunks):
        raise ConfigError("[training] features_on is 'device'; the training directory holds features already")
    if where == "device" and chunks.fbank.dither > 0:
        raise ConfigError(f"[training] features_on is 'device' and [fbank] dither {chunks.fbank.dither}; want dither 0")
