"""Embeddings part by part: computed longest first, written in the list's order, joined to one archive."""

import functools
import itertools
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from speakerkit.errors import DataError, MachineError, RecordingError
from speakerkit.io import ark, audio
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.jobs import pool, utterance_embedding
from speakerkit.jobs.parts import PartFolder
from speakerkit.jobs.utterance_embedding import Embedded, Task
from speakerkit.jobs.utterances import Utterance, audio_fingerprint

log = logging.getLogger(__name__)


def scp_path(ark_path: str | os.PathLike) -> Path:
    """`emb.scp` beside `emb.ark`."""
    return Path(ark_path).with_suffix(".scp")


@dataclass
class Tally:
    """What is counted over all parts, those of earlier runs too."""

    notes: Counter = field(default_factory=Counter)
    rates: Counter = field(default_factory=Counter)
    audio_s: float = 0.0
    speech_s: float = 0.0
    num_utterances: int = 0
    speed: dict = field(default_factory=dict)  # of this run, on a GPU

    def add(self, facts: dict, bad: BadRecordings) -> None:
        """Take in a finished part."""
        self.notes.update(facts["notes"])
        self.rates.update({int(rate): count for rate, count in facts["rates"].items()})
        self.audio_s += facts["audio_seconds"]
        self.speech_s += facts.get("speech_seconds", 0.0)
        self.num_utterances += facts["num_embeddings"]
        for utt_id, row in facts["bad"].items():
            bad.add(utt_id, RecordingError(*row))


def fill_parts(
    parts: list[list[Utterance]],
    seconds: dict[str, float],
    folder: PartFolder,
    options: audio.AudioOptions,
    nj: int,
    choice,
    bad: BadRecordings,
    bar: tqdm,
) -> Tally:
    """Compute the parts that aren't there yet; each is written as soon as its last utterance is done.

    Args:
        parts: the utterances, cut by ``parts.split_parts``.
        seconds: of audio in each utterance that is to be embedded.
        folder: where the parts lie.
        options: how recordings are read.
        nj: worker processes; no more are started than there are utterances.
        choice: the model that ``utterance_embedding.choose_model`` gave.
        bad: takes in what can't be used.
        bar: moved on with each utterance.

    Raises:
        MachineError: a worker was lost, or a part can't be written; it says how much is kept.
    """
    tally, todo = Tally(), []
    for number, part in enumerate(parts):
        fingerprint = audio_fingerprint(part)
        facts = folder.finished(number, fingerprint)
        if facts is None:
            todo.append((number, [u for u in part if u.utt_id in seconds], fingerprint))
        else:
            tally.add(facts, bad)
            bar.update(sum(u.utt_id in seconds for u in part))
    if len(todo) < len(parts):
        log.info("%d of %d parts are there from an earlier run", len(parts) - len(todo), len(parts))
    tasks = ([(u, options, seconds[u.utt_id]) for u in longest_first(part, seconds)]
             for _, part, _ in todo)
    results = _run(tasks, min(nj, max(1, sum(len(part) for _, part, _ in todo))), choice, tally.speed)
    began = time.monotonic()
    done_s = 0.0

    def advance(utterance: Utterance) -> None:
        nonlocal done_s
        done_s += seconds[utterance.utt_id]
        rate = done_s / (time.monotonic() - began)
        bar.set_postfix_str(f"{done_s / 3600:.2f} h, {rate:.0f}x real time", refresh=False)
        bar.update()

    for number, part, fingerprint in todo:
        try:
            facts = _write_part(folder.data_path(number), part, seconds, results, advance)
        except MachineError as error:
            kept, total = tally.num_utterances, sum(map(len, parts))
            raise MachineError(f"{error}; {kept:,} of {total:,} utterances are kept, rerun to go on") from error
        tally.add(folder.finish(number, fingerprint, facts), bad)
    results.close()
    return tally


def longest_first(part: list[Utterance], seconds: dict[str, float]) -> list[Utterance]:
    """A part's utterances in the order they are computed in.

    Like lengths follow each other, so what a library prepares for a length is made once a worker; memory
    grows to what the longest needs and is used again by all that follow; workers don't wait for one another.
    """
    return sorted(part, key=lambda utterance: -seconds[utterance.utt_id])


def _write_part(
    path: Path, part: list[Utterance], seconds: dict[str, float], results: Iterator[Embedded], advance: Callable
) -> dict:
    """The archive of one part, in the list's order, from the results as they come; its facts."""
    facts = {"num_embeddings": 0, "bad": {}, "audio_seconds": 0.0, "speech_seconds": 0.0}
    notes, rates, found = Counter(), Counter(), {}
    for utterance in longest_first(part, seconds):
        found[utterance.utt_id] = next(results)
        advance(utterance)
    with ark.ArkWriter(path) as writer:
        for utterance in part:
            result = found.pop(utterance.utt_id)
            notes.update(result.notes)
            if result.error is None:
                writer.write(utterance.utt_id, result.embedding)
                facts["num_embeddings"] += 1
                facts["audio_seconds"] += result.duration_s
                facts["speech_seconds"] += result.speech_s
                rates[str(result.sample_rate)] += 1
            else:
                facts["bad"][utterance.utt_id] = [result.error.path, result.error.reason, result.error.detail]
    return facts | {"notes": dict(notes), "rates": dict(rates)}


def _run(parts: Iterable[list[Task]], nj: int, choice, speed: dict) -> Iterator[Embedded]:
    """On a CPU one utterance a thread and as many workers as asked for; on a GPU many utterances at once."""
    set_up = functools.partial(utterance_embedding.set_up, choice)
    if _takes_batches(choice):
        from speakerkit.jobs.batched_extraction import embed_in_batches

        return embed_in_batches(parts, utterance_embedding.loaded_extractor(), nj, set_up, speed)
    tasks = itertools.chain.from_iterable(parts)
    return pool.run_tasks(utterance_embedding.embed_utterance, tasks, nj, set_up, utterance_embedding.describe_task)


def _takes_batches(choice) -> bool:
    return choice.device != "cpu"


def join_parts(emb_ark: str, folder: PartFolder, num_parts: int, wanted: int) -> None:
    """Write `emb.ark` and `emb.scp` from the finished parts.

    Raises:
        DataError: they don't hold ``wanted`` embeddings.
    """
    with ark.ArkWriter(emb_ark, scp_path(emb_ark)) as writer:
        for number in range(num_parts):
            if folder.data_path(number).stat().st_size:  # nothing where all recordings of a part are bad
                writer.copy_from(folder.data_path(number))
        if writer.num_records != wanted:
            message = f"holds {writer.num_records} embeddings; want {wanted}: remove the folder and run again"
            raise DataError(folder.folder, message)
