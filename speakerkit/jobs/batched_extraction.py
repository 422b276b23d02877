"""wav.scp to embeddings on a GPU: workers decode ahead, padded batches of like length, results in the list's order."""

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from speakerkit.errors import MachineError, RecordingError
from speakerkit.inference.batched_extractor import BatchedExtractor, Pending
from speakerkit.inference.extractor import Extractor
from speakerkit.inference.throughput import measure_peak, operations_per_frame, probe_features
from speakerkit.jobs import decoding, pool, utterance_embedding
from speakerkit.jobs.decoding import Decoded, DecodeTask
from speakerkit.jobs.utterance_embedding import Embedded, Task
from speakerkit.models import device as devices

log = logging.getLogger(__name__)


@dataclass
class _Clock:
    """What is counted for the closing line."""

    began: float
    waited_s: float = 0.0  # for workers, with nothing to begin
    num_utterances: int = 0


def embed_in_batches(
    parts: Iterable[Sequence[Task]],
    extractor: Extractor,
    nj: int,
    set_up: Callable[[], None],
    speed: dict,
) -> Iterator[Embedded]:
    """Embed utterances many at once; what is decoded by workers meets the network here.

    Args:
        parts: utterances by the parts that are written; batches are cut within them.
        extractor: the model, loaded by torch.
        nj: workers that decode; with one, this process does.
        set_up: called once in each worker.
        speed: filled before the last result: `utterances_per_second`, `waiting_share`, and where batches
            were formed `network_tflops`, `peak_tflops`, `peak_share`, `padding_share`, `batch_frames`.

    Yields:
        What came of each utterance, in order.

    Raises:
        MachineError: a worker was lost, the GPU failed, or its memory doesn't hold one utterance.
    """
    batched = BatchedExtractor(extractor)
    rate = extractor.info.fbank.sample_rate
    ahead, behind = itertools.tee(decoding.cut_windows(parts, rate, extractor.runner.in_parts))
    embedded = 0  # windows whose samples aren't needed any more

    def has_room(task: DecodeTask) -> bool:
        return task.window < embedded + decoding.WINDOWS

    tasks = itertools.chain.from_iterable(ahead)
    results = pool.run_tasks(decoding.decode, tasks, nj, set_up, decoding.describe_task, has_room)
    clock, before = _Clock(time.monotonic()), None
    with decoding.shared_samples(rate), contextlib.closing(results):
        for window in behind:
            asked = time.monotonic()
            try:
                decoded = list(itertools.islice(results, len(window)))
                clock.waited_s += time.monotonic() - asked
                begun = _begin(batched, window, decoded)
            except MachineError:  # what is computed may still be kept
                if before is not None:
                    yield from _finish(batched, before, clock)
                raise
            embedded += 1
            if before is not None:  # its batches came before these, which run on meanwhile
                yield from _finish(batched, before, clock)
            before = begun
    if before is not None:
        last = list(_finish(batched, before, clock))
        speed.update(_measure(batched, clock))
        _say_speed(extractor, speed)
        yield from last


@dataclass(frozen=True)
class _Begun:
    """A window on its way through the network."""

    window: list[DecodeTask]
    decoded: list[Decoded]
    alone: dict[int, Embedded]  # by place
    pending: Pending
    places: list[int]  # of what is pending


def _begin(batched: BatchedExtractor, window: list[DecodeTask], decoded: list[Decoded]) -> _Begun:
    with devices.faults_told(batched.extractor.device):
        alone = {place: utterance_embedding.embed_utterance(task.task)
                 for place, task in enumerate(window) if task.read_alone}
    places = [place for place, found in enumerate(decoded) if found.error is None and place not in alone]
    pending = batched.begin([decoding.samples_of(window[place], decoded[place]) for place in places])
    return _Begun(window, decoded, alone, pending, places)


def _finish(batched: BatchedExtractor, begun: _Begun, clock: _Clock) -> Iterator[Embedded]:
    embeddings = dict(zip(begun.places, batched.finish(begun.pending), strict=True))
    clock.num_utterances += len(begun.window)
    for place, (task, found) in enumerate(zip(begun.window, begun.decoded, strict=True)):
        if place in begun.alone:
            yield begun.alone[place]
        elif found.error is not None:
            yield Embedded(error=found.error, notes=found.notes)
        else:
            yield _told(task, found, embeddings[place])


def _told(task: DecodeTask, found: Decoded, embedding: np.ndarray | RecordingError) -> Embedded:
    if isinstance(embedding, RecordingError):  # the extractor knows samples, not where they are from
        error = RecordingError(task.task[0].path, embedding.reason, embedding.detail)
        return Embedded(error=error, notes=found.notes)
    return Embedded(embedding, None, found.sample_rate, found.duration_s, found.speech_s, found.notes)


def _measure(batched: BatchedExtractor, clock: _Clock) -> dict[str, float]:
    """The closing figures; the peak is measured now that the device has nothing else to do."""
    seconds = max(time.monotonic() - clock.began, 1e-9)
    speed = {
        "utterances_per_second": round(clock.num_utterances / seconds, 1),
        "waiting_share": round(clock.waited_s / seconds, 4),
    }
    if batched.num_frames:
        runner = batched.extractor.runner
        per_frame = operations_per_frame(runner.network, probe_features(runner))
        used, peak = batched.num_frames * per_frame / seconds, measure_peak(runner.device, runner.precision)
        speed |= {
            "network_tflops": float(f"{used / 1e12:.4g}"),
            "peak_tflops": float(f"{peak / 1e12:.4g}"),
            "peak_share": float(f"{used / peak:.4g}"),
            "padding_share": round(1 - batched.num_frames / batched.padded_frames, 4),
            "batch_frames": batched.budget,
        }
    return speed


def _say_speed(extractor: Extractor, speed: dict[str, float]) -> None:
    where = devices.describe_device(extractor.runner.device)
    log.info("%s: %.0f utterances/s, %.1f %% of the time spent waiting for recordings", where,
             speed["utterances_per_second"], 100 * speed["waiting_share"])
    if "peak_share" in speed:
        log.info(
            "  %.3g TFLOP/s of the network, padding (%.1f %%) not counted; %.2g %% of the %.3g that a matrix product "
            "reaches in %s",
            speed["network_tflops"], 100 * speed["padding_share"], 100 * speed["peak_share"], speed["peak_tflops"],
            extractor.precision_name,
        )
