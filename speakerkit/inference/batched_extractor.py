"""Many utterances at once on a GPU, each with the embedding that it has alone."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from speakerkit.errors import MachineError, RecordingError
from speakerkit.features.framing import num_frames
from speakerkit.inference.batches import Batch, cut_batches, row_samples
from speakerkit.inference.device_queue import DeviceQueue, Ticket, is_out_of_memory, start_queue
from speakerkit.inference.extractor import Extractor, check_embedding
from speakerkit.models.device import faults_told
from speakerkit.models.golden import compare_golden, golden_signal

log = logging.getLogger(__name__)

BUDGET = 65536  # frames of a batch: 11 minutes of speech; longer utterances go alone, in stretches where they can


@dataclass
class Pending:
    """Utterances that have been begun; ``BatchedExtractor.finish`` gives their embeddings."""

    results: list[np.ndarray | RecordingError | None]
    tickets: list[tuple[tuple[int, ...], Ticket]] = field(default_factory=list)


class BatchedExtractor:
    """A loaded model that embeds utterances in padded batches of like length; used by one thread.

    An embedding is the one that ``Extractor.embed_samples`` gives, up to the rounding of other kernels:
    what is padded is masked in every layer and in the pooling. What is longer than the budget goes through
    the extractor itself. Where memory is short the budget is halved for good.
    """

    def __init__(self, extractor: Extractor, budget: int = BUDGET, queue: DeviceQueue | None = None):
        """Take a loaded torch model, and hold its golden vector against that of a padded batch.

        Args:
            extractor: the model, on any device.
            budget: frames of a batch, padding included.
            queue: where batches go; the device's own where None.

        Raises:
            DataError: this machine computes wrongly in batches.
            MachineError: the device fails, or has no memory for 6 s.
        """
        self.extractor, self.budget = extractor, budget
        self.queue = start_queue(extractor.runner) if queue is None else queue
        self.num_batches = 0
        self.padded_frames = 0  # computed, padding included
        self.num_frames = 0  # of the utterances in batches
        self._check_golden()

    def _check_golden(self) -> None:
        """The golden signal beside one twice as long, so that half of its row is padding."""
        fbank, choice = self.extractor.info.fbank, self.extractor.choice
        golden = golden_signal(fbank.sample_rate)
        rows = [np.tile(golden, 2), golden]
        frames = num_frames(len(rows[0]), fbank)
        with faults_told(self.extractor.device):
            embedding = self.queue.take(self.queue.put(rows, row_samples(frames, fbank)))[1]
        compare_golden(embedding, self.extractor.info.golden, choice.path, choice.precision)

    def embed(self, utterances: Sequence[np.ndarray]) -> list[np.ndarray | RecordingError]:
        """``begin`` and ``finish`` in one."""
        return self.finish(self.begin(utterances))

    def begin(self, utterances: Sequence[np.ndarray]) -> Pending:
        """Start on utterances; on a GPU it doesn't wait for their embeddings.

        Args:
            utterances: (num_samples,) float32 in [-1, 1] at the model's rate; they aren't needed any
                more when it returns.

        Raises:
            MachineError: memory doesn't suffice for one utterance by itself.
        """
        fbank = self.extractor.info.fbank
        lengths = [num_frames(len(samples), fbank) for samples in utterances]
        pending = Pending([None] * len(utterances))
        waiting = []
        for place, length in enumerate(lengths):
            if 1 <= length <= self.budget:
                waiting.append(place)
            else:
                pending.results[place] = self._embed_alone(utterances[place])
        with faults_told(self.extractor.device):
            self._begin_together(waiting, utterances, lengths, pending)
        return pending

    def _begin_together(
        self, waiting: list[int], utterances: Sequence[np.ndarray], lengths: Sequence[int], pending: Pending
    ) -> None:
        while waiting:
            batches = cut_batches([lengths[place] for place in waiting], self.budget)
            batches = [Batch(tuple(waiting[at] for at in batch.members), batch.num_frames) for batch in batches]
            begun: set[int] = set()
            for batch in batches:
                if not self._begin_batch(batch, utterances, lengths, pending):
                    break  # the rest in smaller batches
                begun.update(batch.members)
            waiting = [place for place in waiting if place not in begun]

    def finish(self, pending: Pending) -> list[np.ndarray | RecordingError]:
        """Embeddings in the utterances' order.

        Returns:
            (embedding_dim,) float32 for each, or a RecordingError whose path is "samples": too-short,
            nan-embedding, zero-embedding.
        """
        for members, ticket in pending.tickets:
            with faults_told(self.extractor.device):
                embeddings = self.queue.take(ticket)
            for place, embedding in zip(members, embeddings, strict=True):
                pending.results[place] = _checked(embedding)
        pending.tickets.clear()
        return pending.results

    def _begin_batch(
        self, batch: Batch, utterances: Sequence[np.ndarray], lengths: Sequence[int], pending: Pending
    ) -> bool:
        """Whether memory was enough; where it wasn't, the budget is half of what it was."""
        rows = [utterances[place] for place in batch.members]
        try:
            ticket = self.queue.put(rows, row_samples(batch.num_frames, self.extractor.info.fbank))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self.finish(pending)  # what is on its way needs memory too
            self.queue.free()
            if len(batch.members) == 1:
                pending.results[batch.members[0]] = self._embed_alone(rows[0])
                return True
            self._take_less(batch)
            return False
        pending.tickets.append((batch.members, ticket))
        self.num_batches += 1
        self.padded_frames += batch.num_frames * len(batch.members)
        self.num_frames += sum(lengths[place] for place in batch.members)
        return True

    def _take_less(self, batch: Batch) -> None:
        self.budget = min(self.budget, batch.num_frames * len(batch.members)) // 2
        log.warning("%s: out of memory; going on with batches of at most %s frames", self.extractor.device,
                    f"{self.budget:,}")

    def _embed_alone(self, samples: np.ndarray) -> np.ndarray | RecordingError:
        """What is too short for a frame, or too long to share a batch."""
        try:
            return self.extractor.embed_samples(samples, self.extractor.info.fbank.sample_rate)
        except RecordingError as error:
            return error
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            seconds = len(samples) / self.extractor.info.fbank.sample_rate
            raise MachineError(
                f"{self.extractor.device}: out of memory for one utterance of {seconds:.1f} s; want --device cpu"
            ) from None


def _checked(embedding: np.ndarray) -> np.ndarray | RecordingError:
    try:
        check_embedding(embedding, "samples")
    except RecordingError as error:
        return error
    return embedding
