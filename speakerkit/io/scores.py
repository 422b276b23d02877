"""Score files: '<enrol-id> <test-id> <score>' a line, written in the trials' order, read in any."""

import io
import os
from typing import BinaryIO

import numpy as np
import polars as pl

from speakerkit.errors import DataError, raise_all
from speakerkit.io.files import open_output
from speakerkit.io.tables import parse_number
from speakerkit.io.trial_lines import TrialLines, first_fields, read_trial_lines, readable_twice
from speakerkit.io.trials import Trials

_BLOCK_LINES = 1 << 18
_MOST_EXAMPLES = 5
_WANTED = "'<enrol-id> <test-id> <score>'"
# Powers of ten that float64 holds exactly, so that each quotient below is the double nearest its decimal.
_POWERS_OF_TEN = 10.0 ** np.arange(23)


def write_scores(path_or_stream: str | os.PathLike | BinaryIO, trials: Trials, scores: np.ndarray) -> None:
    """Write '<enrol-id> <test-id> <score>' lines in the trials' order, nine significant digits.

    Args:
        path_or_stream: a file, which appears whole or not at all, or a binary stream such as standard output.
        trials: num_trials pairs.
        scores: (num_trials,); nine digits keep every float32 apart.

    Raises:
        ValueError: another number of scores, or one that is not finite.
        MachineError: the file can't be written.
    """
    scores = np.asarray(scores)
    if scores.shape != trials.enrol_index.shape:
        raise ValueError(f"{scores.shape} scores for {len(trials)} trials")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    if isinstance(path_or_stream, (str, os.PathLike)):
        with open_output(path_or_stream) as stream:
            _write_blocks(stream, trials, scores)
    else:
        _write_blocks(path_or_stream, trials, scores)


def _write_blocks(stream: BinaryIO, trials: Trials, scores: np.ndarray) -> None:
    enrol_ids, test_ids = pl.Series(trials.enrol_ids), pl.Series(trials.test_ids)
    for start in range(0, len(trials), _BLOCK_LINES):
        part = slice(start, start + _BLOCK_LINES)
        frame = pl.DataFrame({"enrol": enrol_ids.gather(trials.enrol_index[part]),
                              "test": test_ids.gather(trials.test_index[part]),
                              "score": _nine_digits(scores[part])})
        text = io.BytesIO()
        frame.write_csv(text, include_header=False, separator=" ", quote_style="never")
        stream.write(text.getbuffer())
    stream.flush()


def _nine_digits(scores: np.ndarray) -> np.ndarray | list[str]:
    """The numbers whose shortest decimal text has the nine significant digits of `scores`."""
    scores = scores.astype(np.float64)
    sizes = np.abs(scores)
    if np.any((sizes >= 1e8) | ((sizes > 0) & (sizes < 1e-13))):  # no cosine, and beyond the exact powers
        return [f"{score:.9g}" for score in scores.tolist()]
    digits_before = np.floor(np.log10(np.where(sizes > 0, sizes, 1.0))).astype(np.int64)
    powers = _POWERS_OF_TEN[8 - digits_before]
    return np.rint(scores * powers) / powers


def read_scores(path: str | os.PathLike, trials: Trials) -> np.ndarray:
    """Read a score file and put it into the trials' order, pair by pair.

    Args:
        path: '<enrol-id> <test-id> <score>' lines in any order; `-` is standard input.

    Returns:
        (num_trials,) float64, all finite.

    Raises:
        DataErrors: a line without three fields, a score that is no finite decimal number; a pair
            with two scores. DataError: trials without a score or scores without a trial: how many, and
            five examples each way.
    """
    return read_scores_and_hash(path, trials)[0]


def read_scores_and_hash(path: str | os.PathLike, trials: Trials) -> tuple[np.ndarray, str]:
    """`read_scores`, and the SHA-256 of the file's bytes."""
    with readable_twice(path) as (real_path, name):
        columns = {"enrol": pl.Categorical(), "test": pl.Categorical(), "third": pl.Float64()}
        lines = read_trial_lines(real_path, name, f"{_WANTED} a line",
                                 columns if len(first_fields(real_path)) == 3 else {}, _parse_line)
    return _in_order_of(trials, lines), lines.sha256


def _parse_line(fields: list[str]) -> tuple[str, str, float] | str:
    if len(fields) != 3:
        return f"{len(fields)} fields; wanted {_WANTED}"
    score = parse_number(fields[2])
    if score is None:
        return f"score is '{fields[2]}'; wanted a finite decimal number"
    return fields[0], fields[1], score


def _in_order_of(trials: Trials, lines: TrialLines) -> np.ndarray:
    """The scores of the lines, one a trial; refuses what doesn't match."""
    wanted = trials.pairs()
    found = _pair_numbers(trials, lines)
    if np.array_equal(wanted, found) and trials.num_repeated == 0:
        return lines.third
    order = np.argsort(found, kind="stable")
    found, scores = found[order], lines.third[order]
    place = np.minimum(np.searchsorted(found, wanted), len(found) - 1)
    _refuse_differences(trials, lines, wanted[found[place] != wanted], order[~np.isin(found, wanted)])
    _refuse_two_scores(lines, order[np.append(False, (found[1:] == found[:-1]) & (scores[1:] != scores[:-1]))])
    return scores[place]


def _pair_numbers(trials: Trials, lines: TrialLines) -> np.ndarray:
    """(num_lines,) each line's pair as a number among the trials' possible pairs; -1 with an id they don't have."""
    enrol_number = {enrol_id: number for number, enrol_id in enumerate(trials.enrol_ids)}
    test_number = {test_id: number for number, test_id in enumerate(trials.test_ids)}
    enrol = np.array([enrol_number.get(enrol_id, -1) for enrol_id in lines.enrol_ids])[lines.enrol_index]
    test = np.array([test_number.get(test_id, -1) for test_id in lines.test_ids])[lines.test_index]
    return np.where((enrol < 0) | (test < 0), -1, enrol * len(trials.test_ids) + test)


def _refuse_differences(trials: Trials, lines: TrialLines, missing_pairs: np.ndarray, extra_lines: np.ndarray) -> None:
    told = []
    if len(missing_pairs):
        names = [f"'{trials.enrol_ids[pair // len(trials.test_ids)]} {trials.test_ids[pair % len(trials.test_ids)]}'"
                 for pair in missing_pairs[:_MOST_EXAMPLES].tolist()]
        told.append(f"{len(missing_pairs):,} of {len(trials):,} trials in {trials.path} have no score: "
                    + ", ".join(names))
    if len(extra_lines):
        names = [f"{lines.pair(line)} (line {line + 1})" for line in np.sort(extra_lines)[:_MOST_EXAMPLES].tolist()]
        told.append(f"{len(extra_lines):,} of {len(lines.third):,} scores are of no trial there: {', '.join(names)}")
    if told:
        raise DataError(lines.name, "; ".join(told))


def _refuse_two_scores(lines: TrialLines, again: np.ndarray) -> None:
    raise_all([DataError(lines.name, f"{lines.pair(line)} has another score on an earlier line", line + 1)
               for line in np.sort(again).tolist()])
