"""The lines of score files, as this and other toolkits write them."""

import os

import polars as pl

from speakerkit.errors import DataError
from speakerkit.io.spooled import readable_twice
from speakerkit.io.tables import parse_number
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

# Format -> what its lines hold, in order.
SCORE_FORMATS = {
    "score": ("enrol", "test", "score"),                 # Kaldi's, and score-trials'
    "score-label": ("enrol", "test", "score", "label"),  # WeSpeaker's
    "label-score": ("enrol", "test", "label", "score"),  # 3D-Speaker's and SpeechBrain's
    "joined": ("enrol", "test", "score", "label"),       # ESPnet's: the ids are one field with a * between
}
_WANTED = {"enrol": "<enrol-id>", "test": "<test-id>", "score": "<score>", "label": "target|nontarget"}


def read_score_lines(path: str | os.PathLike, score_format: str | None = None) -> TrialLines:
    """Read the lines of a score file, with their labels where there are some.

    Args:
        path: the file; `-` is standard input.
        score_format: a key of SCORE_FORMATS; None: what the first line looks like.

    Raises:
        DataError: no such file, empty, a first line that may be read in two ways. DataErrors: lines with
            another number of fields, a score that is no finite decimal number, another label, an id that is no word.
    """
    with readable_twice(path) as (real_path, name):
        return read_trial_lines(real_path, name, find_score_layout(first_fields(real_path), name, score_format))


def find_score_layout(first: list[str], name: str, score_format: str | None = None) -> LineLayout:
    """The layout of a score file's lines by the first one's fields; DataError where it may be read in two ways."""
    score_format = score_format or _find_format(first, name)
    wanted = _wanted(score_format)
    return LineLayout(f"{wanted} a line", _columns(first, score_format), _LineParser(score_format, wanted),
                      ids_joined=score_format == "joined")


def _wanted(score_format: str) -> str:
    words = " ".join(_WANTED[field] for field in SCORE_FORMATS[score_format])
    return f"'{words.replace(' ', JOINT, 1) if score_format == 'joined' else words}'"


def _find_format(first: list[str], name: str) -> str:
    if len(first) == 3 and first[0].count(JOINT) == 1 and first[2] in LABELS and parse_number(first[1]) is not None:
        return "joined"
    if len(first) == 3 and _is_label_word(first[2]):
        raise DataError(name, f"'{first[2]}' is a label and no score: is this the trial list? Its scores stand in "
                              "another file", 1)
    if len(first) != 4:
        return "score"
    third, fourth = map(_is_label_word, first[2:])
    if third or fourth:
        return "label-score" if third else "score-label"
    third, fourth = (text in LABELS for text in first[2:])
    if third and fourth:
        raise DataError(name, f"'{first[2]} {first[3]}': which of them is the label? Give --scores-format "
                              "score-label or label-score", 1)
    return "label-score" if third else "score-label"


def _is_label_word(text: str) -> bool:
    """Whether a text can't be a score: target and nontarget, not 0 and 1."""
    return text in LABELS and parse_number(text) is None


def _columns(first: list[str], score_format: str) -> dict[str, pl.DataType]:
    """What polars is told to expect; nothing where the first line is faulty."""
    names = SCORE_FORMATS[score_format]
    fields = first[0].split(JOINT) + first[1:] if first and score_format == "joined" else first
    if len(fields) != len(names):
        return {}
    vocabulary = vocabulary_of(fields[names.index("label")]) if "label" in names else VOCABULARIES[0]
    if vocabulary is None:
        return {}
    types = {"enrol": pl.String(), "test": pl.String(), "score": pl.Float64(), "label": pl.Enum(vocabulary)}
    return {name: types[name] for name in names}


class _LineParser:
    """Fields of a line -> ids, score and label."""

    def __init__(self, score_format: str, wanted: str):
        self.names = SCORE_FORMATS[score_format]
        self.wanted = wanted
        self.ids_joined = score_format == "joined"
        self.labels = LabelParser()

    def parse(self, fields: list[str]) -> ParsedLine | str:
        num_fields = len(fields)
        if self.ids_joined:
            ids = parts_of_joined(fields[0])
            if ids is None:
                return f"'{fields[0]}' is no '<enrol-id>{JOINT}<test-id>'"
            fields = ids + fields[1:]
        if len(fields) != len(self.names):
            return f"{num_fields} fields; wanted {self.wanted}"
        value = dict(zip(self.names, fields, strict=True))
        score = parse_number(value["score"])
        if score is None:
            return f"score is '{value['score']}'; wanted a finite decimal number"
        if "label" not in value:
            return ParsedLine(value["enrol"], value["test"], score=score)
        return (self.labels.fault(value["label"])
                or ParsedLine(value["enrol"], value["test"], self.labels.is_target(value["label"]), score))
