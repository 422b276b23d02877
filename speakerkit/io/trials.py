"""Trial lists: which enrolment is compared with which test utterance, and whether they are the same speaker."""

import dataclasses
import os

import numpy as np
import polars as pl

from speakerkit.errors import DataError, raise_all
from speakerkit.io.spooled import Spooled, readable_twice
from speakerkit.io.tables import id_fault, read_table, split_fields
from speakerkit.io.trial_lines import (
    JOINT,
    LABELS,
    VOCABULARIES,
    LabelParser,
    LineLayout,
    ParsedLine,
    TrialLines,
    first_fields,
    parts_of_joined,
    read_trial_lines,
    vocabulary_of,
)

_MOST_CONFLICTS = 1000


@dataclasses.dataclass(frozen=True)
class Trials:
    """A trial list, in its order; trial `i` stands on line `i + 1` of the file.

    Attributes:
        path: the file, for messages.
        sha256: of the file's bytes.
        enrol_ids, test_ids: the different ids, in the order of their first appearance.
        enrol_index, test_index: (num_trials,) int32 places in those lists.
        is_target: (num_trials,) bool, or None where the list has no labels.
        num_repeated: trials that stand in the list already, with the same label.
    """
    path: str
    sha256: str
    enrol_ids: list[str]
    test_ids: list[str]
    enrol_index: np.ndarray
    test_index: np.ndarray
    is_target: np.ndarray | None
    num_repeated: int

    def __len__(self) -> int:
        return len(self.enrol_index)

    def pairs(self) -> np.ndarray:
        """(num_trials,) int64: each pair of ids as one number, enrol_index * num_test_ids + test_index."""
        return self.enrol_index.astype(np.int64) * len(self.test_ids) + self.test_index

    def first_lines(self) -> tuple[np.ndarray, np.ndarray]:
        """(num_enrol_ids,) and (num_test_ids,): the line on which each id stands first."""
        first = []
        for ids, index in ((self.enrol_ids, self.enrol_index), (self.test_ids, self.test_index)):
            lines = np.zeros(len(ids), dtype=np.int64)
            lines[index[::-1]] = np.arange(len(index), 0, -1)  # of equal places the last assignment stays
            first.append(lines)
        return first[0], first[1]


def read_trials(path: str | os.PathLike | Spooled, label_first: bool = False) -> Trials:
    """Read '<enrol-id> <test-id> [target|nontarget|1|0]' lines; labels on all lines or none, in one vocabulary.

    A first line such as 'e1*t1 1' says that all are '<enrol-id>*<test-id> <label>', as in ESPnet's trial_label.

    Args:
        path: the file; `-` is standard input.
        label_first: lines are '<label> <enrol-id> <test-id>', as VoxCeleb's are.

    Raises:
        DataError: no such file, empty, labels in front without `label_first`. DataErrors: lines with
            another number of fields, another label, an id that is no word; a pair that is a target
            on one line and a nontarget on another.
    """
    with readable_twice(path) as (real_path, name):
        lines = read_trial_lines(real_path, name, find_layout(first_fields(real_path), name, label_first))
    return trials_of_lines(lines)


def find_layout(first: list[str], name: str, label_first: bool) -> LineLayout:
    """The layout of a list's lines by the first one's fields; DataError for labels in front without `label_first`."""
    if not label_first and len(first) == 2 and first[1] in LABELS and (ids := parts_of_joined(first[0])):
        wanted = f"'<enrol-id>{JOINT}<test-id> target|nontarget'"
        return LineLayout(f"{wanted} a line", _columns(ids + first[1:], False), _JoinedParser(wanted), ids_joined=True)
    wanted = "'<label> <enrol-id> <test-id>'" if label_first else "'<enrol-id> <test-id> [target|nontarget]'"
    if not label_first and len(first) == 3 and first[0] in LABELS and first[2] not in LABELS:
        raise DataError(name, f"first field '{first[0]}' is a label; wanted '<enrol-id> <test-id> <label>', "
                              "or give --trials-format label-first", 1)
    return LineLayout(f"{wanted} a line", _columns(first, label_first), _LineParser(wanted, label_first))


def trials_of_lines(lines: TrialLines) -> Trials:
    """The trials that the lines of a file name, perhaps with scores; DataErrors where labels contradict each other."""
    return Trials(lines.name, lines.sha256, lines.enrol_ids, lines.test_ids, lines.enrol_index, lines.test_index,
                  lines.is_target, _count_repeated(lines, lines.is_target))


def _columns(first: list[str], label_first: bool) -> dict[str, pl.DataType]:
    """What polars is told to expect; nothing where the first line is faulty."""
    ids = {"enrol": pl.String(), "test": pl.String()}
    if len(first) == 2 and not label_first:
        return ids
    vocabulary = vocabulary_of(first[0 if label_first else -1]) if len(first) == 3 else None
    if vocabulary is None:
        return {}
    label = {"label": pl.Enum(vocabulary)}
    return label | ids if label_first else ids | label


class _LineParser:
    """Fields of a line -> ids and label; the first good line sets what the file keeps to."""

    def __init__(self, wanted: str, label_first: bool):
        self.wanted = wanted
        self.label_first = label_first
        self.num_fields: int | None = None
        self.labels = LabelParser()

    def parse(self, fields: list[str]) -> ParsedLine | str:
        if len(fields) not in ((3,) if self.label_first else (2, 3)):
            return f"{len(fields)} fields; wanted {self.wanted}"
        if self.num_fields not in (None, len(fields)):
            return ("no label, but the lines before have one" if len(fields) == 2 else
                    f"a third field '{fields[2]}', but the lines before have two")
        if len(fields) == 2:
            self.num_fields = 2
            return ParsedLine(fields[0], fields[1])
        label, enrol_id, test_id = fields if self.label_first else (fields[2], fields[0], fields[1])
        if fault := self.labels.fault(label):
            return fault
        self.num_fields = 3
        return ParsedLine(enrol_id, test_id, self.labels.is_target(label))


class _JoinedParser:
    """Fields of a line whose two ids are one field -> ids and label."""

    def __init__(self, wanted: str):
        self.wanted = wanted
        self.labels = LabelParser()

    def parse(self, fields: list[str]) -> ParsedLine | str:
        if len(fields) != 2:
            return f"{len(fields)} fields; wanted {self.wanted}"
        ids = parts_of_joined(fields[0])
        if ids is None:
            return f"'{fields[0]}' is no '<enrol-id>{JOINT}<test-id>'"
        return self.labels.fault(fields[1]) or ParsedLine(*ids, self.labels.is_target(fields[1]))


def _count_repeated(lines: TrialLines, is_target: np.ndarray | None) -> int:
    """How many trials stand in the list already; DataErrors if their labels differ."""
    pairs = lines.enrol_index.astype(np.int64) * len(lines.test_ids) + lines.test_index
    num_possible = len(lines.enrol_ids) * len(lines.test_ids)
    if num_possible <= 8 * len(pairs):  # a mark for each possible pair is much cheaper than sorting
        is_listed = np.zeros(num_possible, dtype=bool)
        is_listed[pairs] = True
        num_repeated = len(pairs) - int(np.count_nonzero(is_listed))
    else:
        num_repeated = len(pairs) - len(np.unique(pairs))
    if num_repeated and is_target is not None:
        _refuse_conflicts(lines, pairs, is_target)
    return num_repeated


def _refuse_conflicts(lines: TrialLines, pairs: np.ndarray, is_target: np.ndarray) -> None:
    order = np.argsort(pairs, kind="stable")  # trials of one pair stand together, in the file's order
    is_new = np.append(True, pairs[order[1:]] != pairs[order[:-1]])
    first = order[np.maximum.accumulate(np.where(is_new, np.arange(len(order)), 0))]
    conflicts = np.flatnonzero(is_target[order] != is_target[first])[:_MOST_CONFLICTS]
    words = VOCABULARIES[0]
    faults = [DataError(lines.name, f"{lines.pair(here)} is {words[int(is_target[here])]} here and "
                                    f"{words[int(is_target[there])]} on line {there + 1}", int(here) + 1)
              for here, there in zip(order[conflicts], first[conflicts], strict=True)]
    raise_all(sorted(faults, key=lambda fault: fault.line))


def read_enrol_map(path: str | os.PathLike) -> dict[str, list[str]]:
    """Read '<enrol-id> <utt-id>...' lines: the utterances whose embeddings make one enrolment.

    Returns:
        enrol_id -> utterances, in the file's order: the k-th id stands on line k.

    Raises:
        DataError, DataErrors: no such file, empty, an id twice or without utterances, an utterance
            twice in one enrolment, an id that is no word.
    """
    table = read_table(path, value_name="utterances")
    enrol_map = {enrol_id: split_fields(value) for enrol_id, value in table.values.items()}
    faults = []
    for enrol_id, utt_ids in enrol_map.items():
        told = [f"'{utt_id}' twice in one enrolment" for utt_id in utt_ids if utt_ids.count(utt_id) > 1]
        told += filter(None, map(id_fault, utt_ids))
        if told:
            faults.append(table.fault(enrol_id, told[0]))
    raise_all(faults)
    return enrol_map
