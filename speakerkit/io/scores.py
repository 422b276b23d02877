"""Score files: '<enrol-id> <test-id> <score>' a line, written in the trials' order, read in any."""

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
import polars as pl

from speakerkit.io.files import open_output
from speakerkit.io.score_lines import read_score_lines
from speakerkit.io.scored_trials import match_scores
from speakerkit.io.trials import Trials

_BLOCK_LINES = 1 << 16
# Powers of ten that float64 holds exactly, so that each quotient below is the double nearest its decimal.
_POWERS_OF_TEN = 10.0 ** np.arange(23)


def write_scores(path_or_stream: str | os.PathLike | BinaryIO, trials: Trials, scores: np.ndarray) -> str:
    """Write '<enrol-id> <test-id> <score>' lines in the trials' order, nine significant digits.

    Args:
        path_or_stream: a file, which appears whole or not at all, or a binary stream such as standard output.
        trials: num_trials pairs.
        scores: (num_trials,); nine digits keep every float32 apart.

    Returns:
        SHA-256 of the bytes written.

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
            return _write_blocks(stream, trials, scores)
    return _write_blocks(path_or_stream, trials, scores)


def _write_blocks(stream: BinaryIO, trials: Trials, scores: np.ndarray) -> str:
    """One block becomes text while the one before is written; gives the SHA-256 of all."""
    digest, lines = hashlib.sha256(), _ScoreText(trials.enrol_ids, trials.test_ids)

    def write(text: memoryview) -> None:
        stream.write(text)
        digest.update(text)

    with ThreadPoolExecutor(1) as pool:  # neither needs the interpreter's lock
        writing = None
        for start in range(0, len(trials), _BLOCK_LINES):
            part = slice(start, start + _BLOCK_LINES)
            text = lines.of(trials.enrol_index[part], trials.test_index[part], scores[part])
            if writing is not None:
                writing.result()
            writing = pool.submit(write, text)
        if writing is not None:
            writing.result()
    stream.flush()
    return digest.hexdigest()


class _ScoreText:
    """Makes the text of score lines, in two buffers by turns: a new one for each block takes 1.5 times as long."""

    def __init__(self, enrol_ids: Sequence[str], test_ids: Sequence[str]):
        self._enrol_ids = pl.Series(list(enrol_ids), dtype=pl.String)
        self._test_ids = pl.Series(list(test_ids), dtype=pl.String)
        self._buffers = [(io.BytesIO(), memoryview(b"")) for _ in range(2)]

    def of(self, enrol_index: np.ndarray, test_index: np.ndarray, scores: np.ndarray) -> memoryview:
        """A line a trial; good until the next call but one."""
        frame = pl.DataFrame({"enrol": self._enrol_ids.gather(enrol_index), "test": self._test_ids.gather(test_index),
                              "score": _nine_digits(scores)})
        buffer, text = self._buffers.pop(0)
        text.release()
        buffer.seek(0)
        frame.write_csv(buffer, include_header=False, separator=" ", quote_style="never")
        text = buffer.getbuffer()[:buffer.tell()]
        self._buffers.append((buffer, text))
        return text


class ScoreWriter:
    """Writes score lines as they come.

    Args:
        stream: takes the bytes.
        enrol_ids, test_ids: what the places below are places in.
    """

    def __init__(self, stream: BinaryIO, enrol_ids: Sequence[str], test_ids: Sequence[str]):
        self._stream = stream
        self._text = _ScoreText(enrol_ids, test_ids)

    def write(self, enrol_index: np.ndarray, test_index: np.ndarray, scores: np.ndarray) -> None:
        """A line a trial, nine significant digits; (num_trials,) each, scores finite."""
        self._stream.write(self._text.of(enrol_index, test_index, scores))


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
        path: lines of any of `score_lines.SCORE_FORMATS`, in any order; `-` is standard input.

    Returns:
        (num_trials,) float64, all finite.

    Raises:
        DataError, DataErrors: as `read_score_lines` and `match_scores`.
    """
    return match_scores(trials, read_score_lines(path))
