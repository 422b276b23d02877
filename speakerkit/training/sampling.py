"""Which utterances make up the batch of a step: a function of (seed, step) alone, so a resumed run goes on exactly."""

import numpy as np

EPOCH_STREAM, SPEAKER_STREAM, CHUNK_STREAM = 1, 2, 3  # separate random streams of one seed


class BatchSampler:
    """Items of every step.

    ``uniform``: each epoch a new permutation of all items, and batches run on over its end, so no
    short batch exists. ``balanced``: a speaker drawn at random, then one of its items.

    Args:
        labels: (num_items,) class of each item.
        batch_size: items a step.
        sampling: "uniform" or "balanced".
        seed: of all draws.
    """

    def __init__(self, labels: np.ndarray, batch_size: int, sampling: str, seed: int):
        self.labels, self.batch_size, self.sampling, self.seed = labels, batch_size, sampling, seed
        self._permutation: tuple[int, np.ndarray] | None = None
        if sampling == "balanced":
            self._order = np.argsort(labels, kind="stable")
            self._starts = np.searchsorted(labels[self._order], np.arange(labels.max() + 2))

    def items(self, step: int) -> np.ndarray:
        """(batch_size,) item indices of a step, counted from 0."""
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        if self.sampling == "balanced":
            return np.array([self._balanced_item(int(p)) for p in positions])
        epochs, places = np.divmod(positions, len(self.labels))
        return np.array([self._epoch(int(e))[p] for e, p in zip(epochs, places, strict=True)])

    def chunk_generator(self, step: int, index: int) -> np.random.Generator:
        """The generator of one chunk's place and disturbances."""
        return np.random.default_rng([self.seed, CHUNK_STREAM, step, index])

    def _epoch(self, epoch: int) -> np.ndarray:
        if self._permutation is None or self._permutation[0] != epoch:
            generator = np.random.default_rng([self.seed, EPOCH_STREAM, epoch])
            self._permutation = epoch, generator.permutation(len(self.labels))
        return self._permutation[1]

    def _balanced_item(self, position: int) -> int:
        generator = np.random.default_rng([self.seed, SPEAKER_STREAM, position])
        speaker = generator.integers(len(self._starts) - 1)
        return int(self._order[generator.integers(self._starts[speaker], self._starts[speaker + 1])])
