"""All pairs of two sets of embeddings, or within one: error rates, the closest pairs, all above a score."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from speakerkit import __version__
from speakerkit.errors import ConfigError, DataError, raise_all
from speakerkit.io import files
from speakerkit.io.files import Manifest
from speakerkit.io.scores import ScoreWriter
from speakerkit.io.tables import read_utt2spk
from speakerkit.jobs import scoring, streaming
from speakerkit.jobs.embedding_set import EmbeddingSet, refuse_unlike_sides
from speakerkit.jobs.scoring import ScoringOptions
from speakerkit.jobs.trial_speakers import ENROL_SUFFIX
from speakerkit.scoring.all_pairs import AllPairs, Kept
from speakerkit.scoring.score_counts import metrics_of_counts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AllPairsOptions:
    """What of all pairs is wanted.

    Attributes:
        utt2spk: '<id> <spk-id>' lines of every id; with them there are metrics.
        top: write this many pairs of highest score of each enrolment; None: not these.
        min_score: write the pairs of this score or more; None: not these.
        how: enrolments are made and errors weighed.
        num_threads: tiles worked on at a time; the result doesn't depend on it.
        max_memory_mb: about what the process may hold; embeddings have to fit.
    """

    utt2spk: str | None = None
    top: int | None = None
    min_score: float | None = None
    how: ScoringOptions = field(default_factory=ScoringOptions)
    num_threads: int = 1
    max_memory_mb: int = 2000


def score_all_pairs(embeddings_path: str, options: AllPairsOptions, report: dict, output: str | BinaryIO,
                    overwrite: bool = False) -> None:
    """Score all pairs; the chosen ones are written, counts, metrics and protocol go to the report.

    Args:
        embeddings_path: archive or scp. Without other enrolments the pairs are those within it, each once;
            with them a pair of one and the same recording is left out.
        options: what is wanted.
        report: filled.
        output: '<enrol-id> <test-id> <score>' lines: a file, with a manifest beside it, or a binary stream.
        overwrite: replace a file that was made otherwise.

    Raises:
        DataError, DataErrors: embeddings that can't be used, ids without a speaker, fewer than two.
        ConfigError: nothing is wanted, the embeddings don't fit, or the file was made otherwise.
    """
    if options.top is None and options.min_score is None and options.utt2spk is None:
        raise ConfigError("nothing to tell of the pairs: give --utt2spk for metrics, --top or --min-score for pairs")
    if not isinstance(output, str):
        enrol, test = scoring.load_sides(embeddings_path, options.how)
        _score(enrol, test, options, report, output)
        return
    if options.top is None and options.min_score is None:
        raise ConfigError(f"--output {output}: no pairs are written without --top or --min-score")
    scoring.refuse_output_over_input(output, (embeddings_path, options.utt2spk), options.how)
    files.check_writable(output)
    with files.output_lock(output):
        enrol, test = scoring.load_sides(embeddings_path, options.how)
        manifest = _make_manifest((enrol, test), options)
        if not files.prepare_output(output, manifest, overwrite):
            report.update(files.read_manifest(output)["results"])
            log.info("%s: nothing to do, it is up to date", output)
            return
        with files.open_output(output) as stream:
            _score(enrol, test, options, report, stream)
        files.write_manifest(output, manifest, report)


def _make_manifest(sides: tuple[EmbeddingSet, EmbeddingSet], options: AllPairsOptions) -> Manifest:
    how = options.how
    sources = {path for side in sides for path in side.sources} | ({options.utt2spk} - {None})
    made_with = {"top": options.top, "min_score": options.min_score, "enrol_embeddings": how.enrol_embeddings,
                 "enrol_map": how.enrol_map, "mean_of": how.mean_of, "utt2spk": options.utt2spk, **how.point._asdict()}
    return Manifest("score-all-pairs", made_with, {path: files.sha256_file(path) for path in sources}, __version__)


def _score(enrol: EmbeddingSet, test: EmbeddingSet, options: AllPairsOptions, report: dict, stream: BinaryIO) -> None:
    pairs = _make_pairs(enrol, test, options)
    report["num_pairs"] = pairs.num_pairs
    num_written = 0
    writer = ScoreWriter(stream, list(enrol.rows), list(test.rows))
    for kept in _chosen(pairs, options):
        writer.write(*kept)
        num_written += len(kept.scores)
    stream.flush()
    report["num_written"] = num_written
    num_target = None
    if options.utt2spk is not None:
        num_target = _measure(pairs, options, report)
    how = scoring.how_scored(enrol, test, options.how)
    protocol = scoring.protocol_of_list("all pairs", None, pairs.num_pairs, num_target, *how)
    report["protocol"] = protocol | {"utt2spk": options.utt2spk, "num_enrolments": len(enrol.rows),
                                     "num_tests": len(test.rows)}


def _make_pairs(enrol: EmbeddingSet, test: EmbeddingSet, options: AllPairsOptions) -> AllPairs:
    refuse_unlike_sides(enrol, test)
    is_one_set = enrol is test
    if len(test.rows) * len(enrol.rows) < (2 if is_one_set else 1):
        raise DataError(test.path, "holds one embedding; a pair wants two")
    speakers = _speakers(enrol, test, options.utt2spk) if options.utt2spk else (None, None)
    rows = streaming.rows_that_fit(test, options.max_memory_mb)
    if is_one_set:
        return AllPairs(rows, None, np.empty(0, dtype=np.int64), *speakers)
    left_out = scoring.pairs_of_one_recording(list(enrol.rows), test.rows, enrol.made_of)
    if len(left_out):
        log.info("pairs of one and the same recording, left out: %s", f"{len(left_out):,}")
    return AllPairs(streaming.rows_that_fit(enrol, options.max_memory_mb), rows, left_out, *speakers)


def _chosen(pairs: AllPairs, options: AllPairsOptions) -> Iterator[Kept]:
    if options.top is not None:
        for kept in pairs.highest(options.top, options.num_threads):
            wanted = slice(None) if options.min_score is None else kept.scores >= np.float32(options.min_score)
            yield Kept(*(column[wanted] for column in kept))
    elif options.min_score is not None:
        yield from pairs.above(options.min_score, options.num_threads)


def _measure(pairs: AllPairs, options: AllPairsOptions, report: dict) -> int:
    counts = pairs.count(options.num_threads)
    num_nontarget, num_target = counts.totals
    if not (num_target and num_nontarget):
        log.info("%s: no %s pairs, so there are no metrics", options.utt2spk, "nontarget" if num_target else "target")
        return num_target

    def again() -> Iterator:
        return pairs.blocks(options.num_threads)

    report.update(scoring.tell_metrics(metrics_of_counts(counts, again, *options.how.point)))
    return num_target


def _speakers(enrol: EmbeddingSet, test: EmbeddingSet, path: str) -> tuple[np.ndarray, np.ndarray]:
    """(num_enrol,) and (num_test,) speakers as numbers; an enrolment may be named as its speaker, as in trials."""
    speaker_of = read_utt2spk(path).values
    numbers = {name: number for number, name in enumerate(dict.fromkeys(speaker_of.values()))}
    faults, sides = [], []
    for side, is_enrol in ((enrol, enrol is not test), (test, False)):
        found = np.empty(len(side.rows), dtype=np.int32)
        for row, key in enumerate(side.rows):
            name = speaker_of.get(key)
            if name is None and is_enrol:
                name = next((form for form in (key, key.removesuffix(ENROL_SUFFIX)) if form in numbers), None)
            if name is None:
                faults.append(DataError(side.path, f"'{key}' has no speaker in {os.fspath(path)}"))
                continue
            found[row] = numbers[name]
        sides.append(found)
    raise_all(faults[:len(faults) if enrol is not test else len(faults) // 2])  # one set is looked at twice
    return sides[0], sides[1]
