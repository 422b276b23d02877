"""Metrics of score files of any length in bounded memory: the numbers of `jobs.scoring`, by way of the disk.

What fits is measured in memory. The rest is read once: pairs are matched and scores put in order on disk, some 50
bytes a trial. Faults are those of memory; where a file has several kinds of them another may be told first.
"""

import contextlib
import logging
import os
from collections.abc import Callable

import numpy as np

from speakerkit.errors import ConfigError, DataError, raise_all
from speakerkit.io.pair_match import PairMatch
from speakerkit.io.pair_stream import TEST_BITS, PairBlock, PairNumbers, PairStream
from speakerkit.io.score_lines import find_score_layout
from speakerkit.io.score_runs import ScoreRuns
from speakerkit.io.spooled import Spooled, readable_twice
from speakerkit.io.trials import find_layout
from speakerkit.jobs import scoring
from speakerkit.jobs.scoring import ScoringOptions
from speakerkit.scoring.score_groups import ScoreGroups, metrics_of_groups

log = logging.getLogger(__name__)

MB = 1 << 20
_BESIDES_MB = 320         # interpreter, libraries, blocks on their way through
_TEXT_IN_MEMORY = 4.0     # bytes that measuring in memory takes for a byte of text, at the most


def measure_score_file(trials_path: str | None, scores_path: str, options: ScoringOptions, report: dict,
                       max_memory_mb: int) -> None:
    """`jobs.scoring.measure_score_file` of files of any length; the ids have to fit.

    Args:
        max_memory_mb: about what the process may hold. The rest as there.
    """
    if trials_path == scores_path == "-":
        raise ConfigError("only one of trials and scores can be standard input")
    with contextlib.ExitStack() as stack:
        trials, scores = (None if path is None else Spooled(*stack.enter_context(readable_twice(path)))
                          for path in (trials_path, scores_path))
        sizes = [os.path.getsize(one.path) for one in (trials, scores) if one and os.path.isfile(one.path)]
        is_all = len(sizes) == 1 + (trials is not None)  # else reading says what is wrong
        if not is_all or sum(sizes) * _TEXT_IN_MEMORY <= (max_memory_mb - _BESIDES_MB) * MB:
            scoring.measure_score_file(trials, scores, options, report)
        else:
            log.info("%s: measured as it is read, in about %s MB", scores.name, f"{max_memory_mb:,}")
            _stream(trials, scores, options, report)


def check_card_fits(trials_path: str | None, scores_path: str, max_memory_mb: int) -> None:
    """Before any work: ConfigError where a card, for which all trials are held, may take more memory than this."""
    sizes = [os.path.getsize(path) for path in (trials_path, scores_path) if path and os.path.isfile(path)]
    needed = _BESIDES_MB + int(sum(sizes) * _TEXT_IN_MEMORY) // MB
    if needed > max_memory_mb:
        raise ConfigError(f"--max-memory {max_memory_mb}: a card of these trials takes up to {needed:,} MB; give as "
                          "much, or leave --card out")


def _stream(trials: Spooled | None, scores: Spooled, options: ScoringOptions, report: dict) -> None:
    numbers = PairNumbers({}, {})
    with PairMatch() as pairs, ScoreRuns() as runs:
        listed = None if trials is None else _add_trials(trials, options, numbers, pairs)
        lines = _add_scores(scores, options, numbers, pairs, is_list=trials is None)
        listed = listed or lines
        num_repeated, num_same = pairs.match(listed.name, scores.name, numbers, _pairs_of_one_recording(numbers),
                                             runs.add)
        num_nontarget, num_target = runs.totals
        groups = (ScoreGroups(*columns) for columns in runs.groups())
        metrics = metrics_of_groups(groups, num_target, num_nontarget, *options.point)
    report.update(scoring.tell_counts(listed.name, listed.num_lines, num_repeated, num_same))
    report.update(scoring.tell_metrics(metrics))
    report["protocol"] = scoring.protocol_of_list(
        listed.name, listed.sha256, listed.num_lines, num_target,
        *scoring.how_score_file_was_made(scores.name, lines.sha256, options.point))


def _pairs_of_one_recording(numbers: PairNumbers) -> np.ndarray:
    same = [enrol << TEST_BITS | numbers.test[name] for name, enrol in numbers.enrol.items() if name in numbers.test]
    return np.array(same, dtype=np.int64)


def _add_trials(trials: Spooled, options: ScoringOptions, numbers: PairNumbers, pairs: PairMatch) -> PairStream:
    with open(trials.path, "rb") as stream:
        listed = PairStream(stream, trials.name, lambda first: find_layout(first, trials.name, options.label_first),
                            numbers)
        _take_list(listed, "trials have no labels: EER needs both classes", pairs.add_trials)
    return listed


def _add_scores(scores: Spooled, options: ScoringOptions, numbers: PairNumbers, pairs: PairMatch,
                is_list: bool) -> PairStream:
    def take_both(block: PairBlock) -> None:
        pairs.add_scores(block)
        pairs.add_trials(block)

    with open(scores.path, "rb") as stream:
        lines = PairStream(stream, scores.name,
                           lambda first: find_score_layout(first, scores.name, options.score_format), numbers)
        if is_list:
            _take_list(lines, "scores have no labels; give the labelled trials too", take_both)
            return lines
        for block in lines.blocks():
            pairs.add_scores(block)
    raise_all(lines.faults)
    return lines


def _take_list(listed: PairStream, no_labels: str, take: Callable[[PairBlock], None]) -> None:
    """Hand on the blocks of a list that has to have labels of both classes."""
    num_of_class, has_labels = np.zeros(2, dtype=np.int64), True
    for block in listed.blocks():
        has_labels = block.is_target is not None
        if has_labels:
            num_of_class += np.bincount(block.is_target, minlength=2)
            take(block)
    raise_all(listed.faults)
    if not has_labels:
        raise DataError(listed.name, no_labels)
    if not num_of_class.all():
        raise DataError(listed.name,
                        f"no {'target' if num_of_class[0] else 'nontarget'} trials: EER needs both classes")
