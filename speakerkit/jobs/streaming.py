"""Trial lists of any length in bounded memory: the bytes and numbers of `jobs.scoring`, block by block.

A list that fits is scored in memory, where all faults are told before the first score. One that doesn't is
read once, from a file or a pipe; scores are written as they come (a file still appears whole or not at all),
metrics come from exact counts. Two things only are told otherwise: of contradicting labels not the earlier
line's number, and faults are found after scores went to standard output.
"""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from speakerkit.errors import ConfigError, DataError, raise_all
from speakerkit.io import files
from speakerkit.io.scores import ScoreWriter
from speakerkit.io.spooled import Spooled, is_pipe, name_of, open_once
from speakerkit.io.trial_lines import VOCABULARIES, count_line_ends
from speakerkit.io.trial_spill import Conflict, PairCounter, ScoreSpill
from speakerkit.io.trial_stream import KnownIds, TrialStream
from speakerkit.jobs import scoring
from speakerkit.jobs.embedding_set import EmbeddingSet, refuse_unlike_sides
from speakerkit.jobs.scoring import ScoringOptions
from speakerkit.scoring.cosine import exact_scores, scoring_rows
from speakerkit.scoring.score_counts import ScoreCounts, metrics_of_counts

log = logging.getLogger(__name__)

MB = 1 << 20
_BESIDES_MB = 320               # interpreter, libraries, a block on its way through
_TEXT_IN_MEMORY = 4.0           # bytes that scoring in memory takes for a byte of the list, at the most
_EMBEDDINGS_IN_MEMORY = 4       # and for a byte of the embeddings; streaming holds them twice while it loads
_CARD_BYTES_A_TRIAL = 110       # of trials, scores and speakers in memory, at the most
_SHARE_OF_PAIRS = 4             # a quarter of the memory may mark pairs that were there


class _List(NamedTuple):
    """A list, in memory's reach or not: `path` to read it from, else `stream`, from its start."""
    name: str
    path: str | Spooled | None
    stream: BinaryIO | None


def score_trials(trials_path: str, embeddings_path: str, options: ScoringOptions, report: dict, stream: BinaryIO,
                 max_memory_mb: int) -> None:
    """`jobs.scoring.score_trials` of a list of any length.

    Args:
        max_memory_mb: about what the process may hold; embeddings have to fit. The rest as there.

    Raises:
        ConfigError: the embeddings don't fit. The rest as there.
    """
    with _open_list(trials_path, embeddings_path, options, max_memory_mb) as listed:
        if listed.path is not None:
            scoring.score_trials(listed.path, embeddings_path, options, report, stream)
            return
        enrol, test = scoring.load_sides(embeddings_path, options)
        _stream(listed, enrol, test, options, report, stream, None, max_memory_mb)


def score_trials_to_file(trials_path: str, embeddings_path: str, options: ScoringOptions, report: dict, output: str,
                         overwrite: bool, max_memory_mb: int) -> None:
    """`jobs.scoring.score_trials_to_file` of a list of any length; arguments as in `score_trials`."""
    with _open_list(trials_path, embeddings_path, options, max_memory_mb) as listed:
        if listed.path is not None:
            scoring.score_trials_to_file(listed.path, embeddings_path, options, report, output, overwrite)
            return
        scoring.refuse_output_over_input(output, (trials_path, embeddings_path), options)
        files.check_writable(output)
        with files.output_lock(output):
            enrol, test = scoring.load_sides(embeddings_path, options)
            sides = (enrol, test)
            if os.path.lexists(output) and not _is_to_do(listed, sides, options, output, overwrite):
                report.update(files.read_manifest(output)["results"])
                log.info("%s: nothing to do, it is up to date", output)
                return
            folder = os.path.dirname(os.path.realpath(output))
            with files.open_output(output) as stream:
                sha256 = _stream(listed, enrol, test, options, report, stream, folder, max_memory_mb)
                manifest = scoring.scores_manifest(listed.name, sha256, sides, options)
                files.prepare_output(output, manifest, overwrite)
            files.write_manifest(output, manifest, report)


def check_card_fits(trials_path: str, embeddings_path: str, options: ScoringOptions, max_memory_mb: int) -> None:
    """Before any work: whether a card of a list can be made in this memory; its trials are all held for that.

    Raises:
        ConfigError: it can't, with what it takes.
    """
    if not os.path.isfile(trials_path):
        return  # reading says what is wrong
    with open(trials_path, "rb") as stream:
        num_trials = sum(map(count_line_ends, iter(lambda: stream.read(MB), b"")))
    needed = _BESIDES_MB + (_CARD_BYTES_A_TRIAL * num_trials
                            + _EMBEDDINGS_IN_MEMORY * _size_of_embeddings(embeddings_path, options)) // MB
    if needed > max_memory_mb:
        raise ConfigError(f"--max-memory {max_memory_mb}: a card of {num_trials:,} trials takes {needed:,} MB; "
                          "give as much, or leave --card out")


def _size_of_embeddings(embeddings_path: str, options: ScoringOptions) -> int:
    paths = [one for one in (embeddings_path, options.enrol_embeddings) if one and os.path.isfile(one)]
    return sum(map(os.path.getsize, paths))


@contextlib.contextmanager
def _open_list(path: str, embeddings_path: str, options: ScoringOptions, max_memory_mb: int) -> Iterator[_List]:
    """The list as something to read in memory if it fits; a pipe is kept on disk as far as it would fit."""
    used = _size_of_embeddings(embeddings_path, options)
    limit = int((max_memory_mb * MB - _BESIDES_MB * MB - _EMBEDDINGS_IN_MEMORY * used) / _TEXT_IN_MEMORY)
    if not is_pipe(path):
        if not os.path.isfile(path) or os.path.getsize(path) <= limit:
            yield _List(path, path, None)
            return
        with open_once(path) as stream:
            yield _List(path, None, stream)
        return
    with open_once(path) as stream, tempfile.NamedTemporaryFile(prefix="speakerkit-") as copy:
        is_all = _copy_some(stream, copy, limit)
        if is_all:
            yield _List(name_of(path), Spooled(copy.name, name_of(path)), None)
            return
        copy.seek(0)
        yield _List(name_of(path), None, _Chained(copy, stream))


def _copy_some(stream: BinaryIO, copy: BinaryIO, limit: int) -> bool:
    """Copy bytes until there are more than `limit`; whether that was all of them. Below 0 none is."""
    while copy.tell() <= limit:
        if not (data := stream.read(MB)):
            copy.flush()
            return True
        copy.write(data)
    return False


class _Chained:
    """What of a pipe was kept on disk, then the rest of it."""

    def __init__(self, copy: BinaryIO, rest: BinaryIO):
        self._copy, self._rest = copy, rest

    def read(self, count: int) -> bytes:
        return self._copy.read(count) or self._rest.read(count)


def _is_to_do(listed: _List, sides: tuple[EmbeddingSet, EmbeddingSet], options: ScoringOptions, output: str,
              overwrite: bool) -> bool:
    """Before hours of work: whether what lies at the output is of these inputs, or may be replaced."""
    if listed.name == "standard input" or is_pipe(listed.name):  # its bytes can't be known yet; all else can
        known = files.read_manifest(output)
        sha256 = (known or {}).get("inputs", {}).get(listed.name, "")
        manifest = scoring.scores_manifest(listed.name, sha256, sides, options)
        files.prepare_output(output, manifest, overwrite)
        return True
    manifest = scoring.scores_manifest(listed.name, files.sha256_file(listed.name), sides, options)
    return files.prepare_output(output, manifest, overwrite)


def _stream(listed: _List, enrol: EmbeddingSet, test: EmbeddingSet, options: ScoringOptions, report: dict,
            stream: BinaryIO, folder: str | None, max_memory_mb: int) -> str:
    """Score a list once through; counts, metrics and protocol go to the report. Returns the list's SHA-256."""
    refuse_unlike_sides(enrol, test)
    test_rows = rows_that_fit(test, max_memory_mb)
    enrol_rows = test_rows if enrol.matrix is test.matrix else rows_that_fit(enrol, max_memory_mb)
    log.info("%s: scored as it is read, in at most %s MB", listed.name, f"{max_memory_mb:,}")
    trials = TrialStream(listed.stream, listed.name, _known(enrol), _known(test), options.label_first)
    same = scoring.pairs_of_one_recording(list(enrol.rows), test.rows, enrol.made_of)
    writer = ScoreWriter(stream, list(enrol.rows), list(test.rows))
    num_pairs, num_same, counts, has_labels = len(enrol.rows) * len(test.rows), 0, ScoreCounts(), False
    with ScoreSpill(folder) as spill, PairCounter(num_pairs, max_memory_mb * MB // _SHARE_OF_PAIRS, folder) as counter:
        for block in trials.blocks():
            pairs = block.enrol_rows * len(test.rows) + block.test_rows
            counter.add(pairs, block.is_target, block.first_line)
            num_same += _count_among(pairs, same)
            if trials.faults:
                continue
            scores = exact_scores(enrol_rows, test_rows, block.enrol_rows, block.test_rows)
            writer.write(block.enrol_rows, block.test_rows, scores)
            has_labels = block.is_target is not None
            is_target = block.is_target if has_labels else np.zeros(len(scores), dtype=bool)
            counts.add(scores, is_target)
            if has_labels:
                spill.add(scores, is_target)
        num_repeated, conflicts = counter.finish()
        raise_all(trials.faults or _contradictions(listed.name, conflicts, enrol, test))
        stream.flush()
        report.update(scoring.tell_counts(listed.name, trials.num_lines, num_repeated, num_same))
        num_target = counts.totals[1] if has_labels else None
        if fault := _why_no_metrics(counts, has_labels):
            log.info("%s: %s, so there are no metrics", listed.name, fault)
        else:
            report.update(scoring.tell_metrics(metrics_of_counts(counts, spill.blocks, *options.point)))
    report["protocol"] = scoring.protocol_of_list(listed.name, trials.sha256, trials.num_lines, num_target,
                                                  *scoring.how_scored(enrol, test, options))
    return trials.sha256


def _count_among(pairs: np.ndarray, chosen: np.ndarray) -> int:
    """How many pairs are among the chosen ones, which ascend."""
    if len(chosen) == 0:
        return 0
    place = np.minimum(np.searchsorted(chosen, pairs), len(chosen) - 1)
    return int(np.count_nonzero(chosen[place] == pairs))


def rows_that_fit(embeddings: EmbeddingSet, max_memory_mb: int) -> np.ndarray:
    """What `scoring_rows` makes of embeddings; ConfigError where there is too little memory for them."""
    needed = _BESIDES_MB + 3 * embeddings.matrix.nbytes // MB
    if needed > max_memory_mb:
        raise ConfigError(f"--max-memory {max_memory_mb}: the embeddings of {embeddings.path} alone take "
                          f"{embeddings.matrix.nbytes // MB} MB; give {needed} or more")
    return scoring_rows(embeddings.matrix)


def _known(embeddings: EmbeddingSet) -> KnownIds:
    return KnownIds(list(embeddings.rows), embeddings.rows, embeddings.path)


def _contradictions(name: str, conflicts: list[Conflict], enrol: EmbeddingSet, test: EmbeddingSet) -> list[DataError]:
    enrol_ids, test_ids, words = list(enrol.rows), list(test.rows), VOCABULARIES[0]
    return [DataError(name, f"'{enrol_ids[pair // len(test_ids)]} {test_ids[pair % len(test_ids)]}' is "
                            f"{words[int(is_target)]} here and {words[int(not is_target)]} on an earlier line", line)
            for line, pair, is_target in conflicts]


def _why_no_metrics(counts: ScoreCounts, has_labels: bool) -> str | None:
    if not has_labels:
        return "trials have no labels"
    num_nontarget, num_target = counts.totals
    if not num_nontarget:
        return "no nontarget trials"
    return None if num_target else "no target trials"
