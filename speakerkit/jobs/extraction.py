"""wav.scp to emb.ark: workers, parts, resume, the list of bad recordings."""

import contextlib
import dataclasses
import functools
import itertools
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from speakerkit import __version__
from speakerkit.errors import DataError, MachineError, RecordingError, raise_all
from speakerkit.features.resample import resample_blocks
from speakerkit.io import ark, audio, files, locks, tables
from speakerkit.io.audio_stream import LONG_S, AudioStream, StreamFault, open_stream
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.io.files import Manifest
from speakerkit.jobs import pool
from speakerkit.jobs.parts import PartFolder, split_parts
from speakerkit.jobs.utterances import (
    Utterance,
    audio_fingerprint,
    load_utterance,
    read_utterances,
    say_resampled,
    scan_utterances,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractionOptions:
    """What to extract with, and how."""

    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    backend: str = "auto"
    nj: int = 1
    vad: bool = False  # keep what a detector takes for speech, leave out the rest
    audio_options: audio.AudioOptions = field(default_factory=audio.AudioOptions)
    allowed_bad: Callable[[int], int] = lambda total: 0
    overwrite: bool = False
    show: bool = True
    rerun: str = "extract-embeddings"  # the command line, for the message that tells how to finish


@dataclass
class Embedded:
    """What a worker gives back for one utterance."""

    embedding: np.ndarray | None = None
    error: RecordingError | None = None
    sample_rate: int = 0
    duration_s: float = 0.0
    speech_s: float = 0.0  # what of it was embedded
    notes: Counter = field(default_factory=Counter)


Task = tuple[Utterance, audio.AudioOptions, float]  # with its length in seconds, as the header says it

_choice = None  # the model of this process and how it is run
_extractor = None  # the same, loaded; workers inherit it by fork where the library allows that
_detector = None


def embed_utterance(task: Task) -> Embedded:
    """One utterance by itself, in a worker; its length decides how it is read."""
    utterance, options, _ = task
    notes: Counter = Counter()
    try:
        stream = None
        if is_long(task) and _loaded().runner.in_parts:
            stream = open_stream(utterance.path, options, utterance.start_s, utterance.end_s)
        if stream is not None:
            with contextlib.suppress(StreamFault):  # loading it at once says what is wrong
                duration_s = stream.num_samples / stream.sample_rate
                return Embedded(_embed_stream(stream, notes), None, stream.sample_rate, duration_s, duration_s, notes)
            notes.clear()
        samples, speech, rate = load_speech(utterance, options, notes)
        embedding = _loaded().embed_samples(speech, rate)
        return Embedded(embedding, None, rate, len(samples) / rate, len(speech) / rate, notes)
    except RecordingError as error:  # the extractor knows samples, not where they are from
        return Embedded(error=RecordingError(utterance.path, error.reason, error.detail), notes=notes)


def is_long(task: Task) -> bool:
    """Whether a recording is read in blocks, never as a whole, by a model that can be run in parts."""
    utterance, _, seconds = task
    return seconds >= LONG_S and not utterance.joined and _detector is None


def load_speech(
    utterance: Utterance, options: audio.AudioOptions, notes: Counter
) -> tuple[np.ndarray, np.ndarray, int]:
    """An utterance's samples, what of them is to be embedded, and their rate."""
    samples, rate = load_utterance(utterance, options, notes)
    speech = samples if _detector is None else _detector.keep_speech(samples, rate, options.min_duration_s)
    return samples, speech, rate


def _embed_stream(stream: AudioStream, notes: Counter) -> np.ndarray:
    """A long recording, decoded once for its mean and once for its embedding, in constant memory."""
    model_rate = _choice.info.fbank.sample_rate
    passes = iter([notes])  # counted once

    def blocks() -> Iterator[np.ndarray]:
        return resample_blocks(stream.blocks(next(passes, None)), stream.sample_rate, model_rate)

    return _loaded().embed_blocks(blocks)


def describe_task(task: Task) -> str:
    """For the message about a worker that died."""
    return task[0].path


def scp_path(ark_path: str | os.PathLike) -> Path:
    """`emb.scp` beside `emb.ark`."""
    return Path(ark_path).with_suffix(".scp")


def extract_embeddings(
    wav_scp: str | os.PathLike,
    emb_ark: str | os.PathLike,
    options: ExtractionOptions,
    report: dict,
    segments: str | os.PathLike | None = None,
    spk2utt: str | os.PathLike | None = None,
    utt2utts: str | os.PathLike | None = None,
) -> None:
    """One embedding an utterance, in the list's order, as `emb.ark` and `emb.scp`.

    Args:
        wav_scp: '<id> <path>' lines.
        emb_ark: the archive to write; parts of a stopped run lie in `<emb_ark>.parts/`.
        options: model, device, workers, what is accepted.
        report: filled with counts, for --json.
        segments: '<utt-id> <rec-id> <start> <end>' lines.
        utt2utts: '<utt-id> <part-id>...' lines, utterances that are several of these joined.
        spk2utt: also write `spk_<emb_ark>`, the mean embedding of each of its speakers.

    Raises:
        DataError: a fault of structure (nothing is written), or more bad recordings than allowed
            (what is finished is kept).
        ConfigError: `emb_ark` was made from other options or inputs.
    """
    emb_ark = os.fspath(emb_ark)
    vad_facts(options.vad)  # is it installed?
    utterances = read_utterances(wav_scp, segments, options.audio_options.allow_pipes, utt2utts)
    listed = {"wav.scp": wav_scp, "segments": segments, "spk2utt": spk2utt, "utt2utts": utt2utts}
    speakers = None if spk2utt is None else _read_speakers(spk2utt, utterances)
    files.check_writable(emb_ark)
    with locks.output_lock(emb_ark):
        _extract(utterances, listed, emb_ark, options, report, speakers)


def _read_speakers(spk2utt, utterances: list[Utterance]) -> dict[str, list[str]]:
    known = {u.utt_id for u in utterances}
    speakers = tables.read_spk2utt(spk2utt)
    raise_all(
        [
            DataError(spk2utt, f"'{utt_id}' of speaker '{spk_id}' is not among the utterances")
            for spk_id, utt_ids in speakers.items()
            for utt_id in utt_ids
            if utt_id not in known
        ]
    )
    return speakers


def _extract(utterances, listed, emb_ark, options, report, speakers) -> None:
    started = time.monotonic()
    choice = _choose(options)
    manifest = _make_manifest(utterances, listed, options, choice)
    outputs = [scp_path(emb_ark)] + (_speaker_outputs(emb_ark) if speakers else [])
    report.update(output=emb_ark, model=choice.path, sha256=choice.sha256, precision=choice.precision,
                  backend=choice.backend)
    identity = dataclasses.replace(manifest, inputs={"model": choice.sha256, "device": choice.device})
    place = f"{emb_ark}.parts", identity.to_json()
    if not files.prepare_output(emb_ark, manifest, options.overwrite, outputs):
        if PartFolder.is_there(*place):  # of a run killed at its last step
            PartFolder(*place).remove()
        report.update(files.read_manifest(emb_ark)["results"])
        log.info("%s: nothing to do, it is up to date", emb_ark)
        return
    bad = BadRecordings(emb_ark)
    seconds = scan_utterances(utterances, options.audio_options, bad, options.show)
    parts = [
        [utterances[i] for i in part] for part in split_parts([seconds.get(u.utt_id, 0.0) for u in utterances])
    ]
    folder = PartFolder(*place)
    with tqdm(
        total=len(seconds), desc="extract", unit="utt", dynamic_ncols=True, disable=None if options.show else True
    ) as bar:
        tally = _fill_parts(parts, seconds, folder, options, choice, bad, bar)
    audio.say_notes(tally.notes)
    say_resampled(tally.rates, choice.info.fbank.sample_rate)
    report.update(num_utterances=len(utterances) - len(bad.rows), num_bad=len(bad.rows), **bad.counts())
    report.update(audio_seconds=round(tally.audio_s, 3), wall_seconds=round(time.monotonic() - started, 3))
    report.update(tally.speed)
    if options.vad:
        report["speech_seconds"] = round(tally.speech_s, 3)
        log.info("%s of %s of audio is speech (%s)", f"{tally.speech_s / 3600:.2f} h", f"{tally.audio_s / 3600:.2f} h",
                 manifest.options["vad"])
    bad.judge(len(utterances), options.allowed_bad, options.rerun)
    _join(emb_ark, folder, len(parts), len(utterances) - len(bad.rows))
    if speakers:
        _write_speaker_means(emb_ark, speakers, bad)
    results = {k: report[k] for k in ("num_utterances", "num_bad", "audio_seconds", "speech_seconds") if k in report}
    model = {"model": choice.info.name, "model_sha256": choice.sha256, "precision": choice.precision}
    model |= vad_facts(options.vad)
    files.write_manifest(emb_ark, manifest, results | model, outputs)
    folder.remove()
    _say_done(emb_ark, report, choice, options)


def _choose(options: ExtractionOptions):
    """Model and library; loaded in this process, with one thread, where workers forked from here may share it."""
    global _choice, _extractor, _detector
    from speakerkit.inference.backends import choose_backend

    _choice, _extractor = choose_backend(options.model, options.device, options.precision, options.backend,
                                             forks=options.nj > 1), None
    if options.nj == 1 or _choice.backend != "openvino":  # whose threads a fork would lose
        _set_up(_choice)
        _loaded()
    if options.vad:
        from speakerkit.inference.speech_detector import load_detector

        _detector = load_detector()
    else:
        _detector = None
    return _choice


def _set_up(choice) -> None:
    """One thread a process, and memory that is kept; what a worker needs to load the model itself."""
    global _choice
    from speakerkit.models import device

    _choice = choice
    device.keep_freed_memory()
    if choice.backend == "torch":
        import torch

        torch.set_num_threads(1)


def _loaded():
    """The extractor of this process, loaded when the first utterance comes."""
    global _extractor
    from speakerkit.inference.extractor import start_extractor
    from speakerkit.models import device

    if _extractor is None:
        _extractor = start_extractor(_choice)
        device.release_freed_memory()
    return _extractor


def _make_manifest(utterances, listed, options, choice) -> Manifest:
    inputs = {"model": choice.sha256, "audio (paths, sizes, times)": audio_fingerprint(utterances)}
    for role, table in listed.items():
        if table is not None:
            inputs[role] = files.sha256_file(table)
    chosen = options.audio_options
    made_with = {
        "precision": choice.precision,
        "backend": choice.backend,
        "channel": chosen.channel,
        "pcm_rate": chosen.pcm_rate,
        "min_duration": chosen.min_duration_s,
        "accept_truncated": chosen.accept_truncated,
    } | vad_facts(options.vad)
    return Manifest("extract-embeddings", made_with, inputs, __version__)


def vad_facts(vad: bool) -> dict[str, str]:
    """`vad`: the detector with its version, as manifests and protocols have it; nothing where none is used."""
    from speakerkit.inference.speech_detector import detector_name

    return {"vad": detector_name()} if vad else {}


@dataclass
class _Tally:
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


def _fill_parts(parts, seconds, folder, options, choice, bad, bar) -> _Tally:
    """Compute the parts that aren't there yet; each is written as soon as its last utterance is done."""
    tally, todo = _Tally(), []
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
    tasks = ([(u, options.audio_options, seconds[u.utt_id]) for u in longest_first(part, seconds)]
             for _, part, _ in todo)
    results = _run(tasks, options, choice, tally.speed)
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


def _run(parts: Iterable[list[Task]], options: ExtractionOptions, choice, speed: dict) -> Iterator[Embedded]:
    """On a CPU one utterance a thread and as many workers as asked for; on a GPU many utterances at once."""
    set_up = functools.partial(_set_up, choice)
    if _takes_batches(choice):
        from speakerkit.jobs.batched_extraction import embed_in_batches

        return embed_in_batches(parts, _loaded(), options.nj, set_up, speed)
    return pool.run_tasks(embed_utterance, itertools.chain.from_iterable(parts), options.nj, set_up, describe_task)


def _takes_batches(choice) -> bool:
    return choice.device != "cpu"


def _join(emb_ark: str, folder: PartFolder, num_parts: int, wanted: int) -> None:
    with ark.ArkWriter(emb_ark, scp_path(emb_ark)) as writer:
        for number in range(num_parts):
            if folder.data_path(number).stat().st_size:  # nothing where all recordings of a part are bad
                writer.copy_from(folder.data_path(number))
        if writer.num_records != wanted:
            message = f"holds {writer.num_records} embeddings; want {wanted}: remove the folder and run again"
            raise DataError(folder.folder, message)


def _speaker_outputs(emb_ark: str) -> list[Path]:
    path = Path(emb_ark)
    speaker_ark = path.with_name(f"spk_{path.name}")
    return [speaker_ark, scp_path(speaker_ark)]


def _write_speaker_means(emb_ark: str, speakers: dict[str, list[str]], bad: BadRecordings) -> None:
    """The plain mean of each speaker's embeddings; a speaker with none left is an error."""
    vectors = ark.read_vectors(emb_ark)
    outputs = _speaker_outputs(emb_ark)
    with ark.ArkWriter(*outputs) as writer:
        for spk_id, utt_ids in speakers.items():
            rows = [vectors[utt_id] for utt_id in utt_ids if utt_id in vectors]
            if not rows:
                raise DataError(bad.list_path, f"no recording of speaker '{spk_id}' can be used")
            writer.write(spk_id, np.mean(rows, axis=0, dtype=np.float64).astype(np.float32))


def _say_done(emb_ark: str, report: dict, choice, options: ExtractionOptions) -> None:
    wall = report["wall_seconds"]
    log.info(
        "%s of %s utterances, %.2f h of audio, %d bad",
        f"{report['num_utterances']:,}",
        f"{report['num_utterances'] + report['num_bad']:,}",
        report["audio_seconds"] / 3600,
        report["num_bad"],
    )
    log.info("  %s, %s   model %s %s", emb_ark, scp_path(emb_ark).name, choice.info.name, choice.sha256[:8])
    log.info("  %.1f s, %.0f x real time, %d workers", wall, report["audio_seconds"] / max(wall, 1e-9), options.nj)
