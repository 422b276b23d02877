"""Files of '<id> <value...>' lines: wav.scp, utt2spk, spk2utt, utt2utts, segments; sorted as LC_ALL=C sorts.

An id is one word: fields are split at spaces and tabs only, and an id that holds any other blank
or invisible character is refused, because other tools would cut it there without a word.
"""

import dataclasses
import logging
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping

from speakerkit.errors import DataError, raise_all
from speakerkit.io.files import open_output
from speakerkit.io.text_lines import read_lines

__all__ = ["Segment", "Table", "id_fault", "parse_number", "read_lines", "read_segments", "read_spk2utt",
           "read_table", "read_utt2spk", "read_utt2utts", "read_utt2value", "resolve_path", "sort_key", "split_fields",
           "write_table"]

log = logging.getLogger(__name__)

_SEPARATOR = re.compile("[ \t]+")
_ODD_CHARACTER = re.compile(
    "[\\s\x00-\x1f\x7f-\xa0\xad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MAX_SPEAKER_LINE_CHARS = 1 << 26  # one speaker's utterances stand on one line
_lists_told: set[str] = set()


@dataclasses.dataclass(frozen=True)
class Table:
    """One '<id> <value>' file.

    Attributes:
        path: where it was read, for messages.
        values: id -> value, in the file's order.
        lines: id -> line number, counted from 1.
    """
    path: str
    values: dict[str, str]
    lines: dict[str, int]

    def fault(self, key: str, message: str) -> DataError:
        """A DataError that points at the line of `key`."""
        return DataError(self.path, message, self.lines.get(key))


@dataclasses.dataclass(frozen=True)
class Segment:
    """One utterance inside a recording: [start_s, end_s) in seconds; end_s -1 is the recording's end."""
    rec_id: str
    start_s: float
    end_s: float
    line: int


def sort_key(text: str) -> bytes:
    """The order of LC_ALL=C: by the bytes of the UTF-8 text."""
    return text.encode("utf-8", "surrogateescape")


def split_fields(line: str) -> list[str]:
    """The fields of a line, split at runs of spaces and tabs and nothing else."""
    return _SEPARATOR.split(line.strip(" \t"))


def id_fault(text: str) -> str | None:
    """What is wrong with an id, or None: it may hold no blank, control or invisible character."""
    if text.isascii() and text.isprintable() and " " not in text:
        return None
    odd = _ODD_CHARACTER.search(text)
    if odd is None:
        return None
    character = odd.group()
    name = unicodedata.name(character, "control character")
    return f"{text!r} holds U+{ord(character):04X} ({name}); wanted an id without blank or invisible characters"


def parse_number(text: str) -> float | None:
    """A decimal number, or None; no nan, inf, underscore or hexadecimal, which Python's float() takes."""
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if abs(number) != float("inf") else None


def resolve_path(value: str, list_path: str | os.PathLike) -> str:
    """The absolute path that a list names: from the working folder, else from the list's own folder.

    Returns:
        The path in the working folder where neither exists. That a list's own folder was used is
        said once for each list.
    """
    here = os.path.abspath(value)
    beside = os.path.join(os.path.dirname(os.path.abspath(list_path)), value)
    if os.path.isabs(value) or os.path.exists(here) or not os.path.exists(beside):
        return here
    if os.fspath(list_path) not in _lists_told:
        _lists_told.add(os.fspath(list_path))
        log.info("%s: relative paths are taken from its own folder", os.fspath(list_path))
    return beside


def read_table(path: str | os.PathLike, value_name: str = "path") -> Table:
    """Read '<id> <value>' lines; all after the first run of spaces and tabs is the value.

    Args:
        path: the file, or `-`.
        value_name: what a value is, for messages.

    Raises:
        DataError: no such file, empty, not text. DataErrors: every faulty line: an id without a
            value, an id twice, an id with blank or invisible characters.
    """
    faults: list[DataError] = []
    table = _collect(path, f"'<id> <{value_name}>' a line", faults)
    for key, value in table.values.items():
        if not value:
            faults.append(table.fault(key, f"'{key}' has no {value_name}"))
    _raise_in_order(faults)
    return table


def read_utt2spk(path: str | os.PathLike) -> Table:
    """Read '<utt-id> <spk-id>' lines, exactly two fields; raises as read_table does."""
    return _read_two_fields(path, "'<utt-id> <spk-id>'")


def read_utt2value(path: str | os.PathLike) -> Table:
    """Read '<id> <value>' lines such as utt2genre or utt2dur, a value being one word; raises as read_table does."""
    return _read_two_fields(path, "'<id> <value>'")


def _read_two_fields(path: str | os.PathLike, wanted: str) -> Table:
    faults: list[DataError] = []
    table = _collect(path, f"{wanted} a line", faults)
    for key, value in table.values.items():
        num_fields = 1 + len(split_fields(value)) if value else 1
        fault = id_fault(value)
        if num_fields != 2:
            faults.append(table.fault(key, f"{num_fields} fields; wanted {wanted}"))
        elif fault is not None:
            faults.append(table.fault(key, fault))
    _raise_in_order(faults)
    return table


def read_spk2utt(path: str | os.PathLike) -> dict[str, list[str]]:
    """Read '<spk-id> <utt-id>...' lines, in order; an utterance may stand in the file only once.

    Raises:
        DataError: as read_table does, and for an utterance that is named twice.
    """
    return _read_lists(path, "'<spk-id> <utt-id>...' a line")


def read_utt2utts(path: str | os.PathLike) -> dict[str, list[str]]:
    """Read '<utt-id> <part-id>...' lines: utterances that are others joined end to end, in the line's order.

    As Kaldi's combine_short_segments.sh writes them: '<utt-id> <utt-id>' is an utterance by itself. A
    part is a segment where there are segments, else a recording; it belongs to one utterance only.

    Raises:
        DataError: as read_table does, and for a part that is named twice.
    """
    return _read_lists(path, "'<utt-id> <part-id>...' a line")


def _read_lists(path: str | os.PathLike, wanted: str) -> dict[str, list[str]]:
    faults: list[DataError] = []
    table = _collect(path, wanted, faults, _MAX_SPEAKER_LINE_CHARS)
    spk2utt = {spk_id: split_fields(value) if value else [] for spk_id, value in table.values.items()}
    owner: dict[str, str] = {}
    for spk_id, utt_ids in spk2utt.items():
        if not utt_ids:
            faults.append(table.fault(spk_id, f"'{spk_id}' has no utterance"))
        for utt_id in utt_ids:
            fault = id_fault(utt_id)
            if utt_id in owner:
                fault = f"'{utt_id}' again; first on line {table.lines[owner[utt_id]]}"
            if fault is not None:
                faults.append(table.fault(spk_id, fault))
            owner.setdefault(utt_id, spk_id)
    _raise_in_order(faults)
    return spk2utt


def read_segments(path: str | os.PathLike) -> dict[str, Segment]:
    """Read '<utt-id> <rec-id> <start> <end>' lines, seconds; an end of -1 is the recording's end.

    Returns:
        utt_id -> Segment, in the file's order.

    Raises:
        DataError: as read_table does, and for a field count other than 4, a time that is no plain
            decimal number, a negative start, an end that is not after the start.
    """
    faults: list[DataError] = []
    table = _collect(path, "'<utt-id> <rec-id> <start> <end>' a line", faults)
    segments = {}
    for utt_id, value in table.values.items():
        segment = _parse_segment(split_fields(value), table.lines[utt_id])
        if isinstance(segment, str):
            faults.append(table.fault(utt_id, segment))
        else:
            segments[utt_id] = segment
    _raise_in_order(faults)
    return segments


def _parse_segment(fields: list[str], line: int) -> Segment | str:
    if len(fields) != 3:
        return f"{1 + len([field for field in fields if field])} fields; wanted '<utt-id> <rec-id> <start> <end>'"
    rec_id = fields[0]
    start_s, end_s = parse_number(fields[1]), parse_number(fields[2])
    for text, number in zip(fields[1:], (start_s, end_s), strict=True):
        if number is None:
            return f"'{text}' is no time; wanted seconds as a decimal number"
    if start_s < 0:
        return f"segment starts at {fields[1]} s, before its recording"
    if end_s != -1 and end_s <= start_s:
        return f"segment ends at {fields[2]} s, not after its start at {fields[1]} s"
    return id_fault(rec_id) or Segment(rec_id, start_s, end_s, line)


def _collect(path: str | os.PathLike, wanted: str, faults: list[DataError],
             max_line_chars: int | None = None) -> Table:
    """Ids and what follows them; an id that is faulty or there already goes to `faults`."""
    limit = {} if max_line_chars is None else {"max_line_chars": max_line_chars}
    name = "standard input" if path == "-" else os.fspath(path)
    values, lines = {}, {}
    for number, line in read_lines(path, wanted, faults, **limit):
        line = line.strip(" \t")
        separator = _SEPARATOR.search(line)
        key, value = (line, "") if separator is None else (line[:separator.start()], line[separator.end():])
        fault = id_fault(key)
        if key in values:
            fault = f"'{key}' again; first on line {lines[key]}"
        if fault is None:
            values[key] = value
            lines[key] = number
        else:
            faults.append(DataError(name, fault, number))
    return Table(name, values, lines)


def _raise_in_order(faults: list[DataError]) -> None:
    raise_all(sorted(faults, key=lambda fault: fault.line or 0))


def write_table(path: str | os.PathLike, pairs: Mapping[str, object] | Iterable[tuple[str, object]]) -> None:
    """Write '<id> <value>' lines in the given order, whole or not at all.

    Args:
        path: the file.
        pairs: ids and values; a value is written as str() writes it.

    Raises:
        DataError: an id twice or not one word; a value that is empty, holds a line break, or begins
            or ends with a blank, none of which would be read back.
        MachineError: the file can't be written.
    """
    seen, lines = set(), []
    for key, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
        text = str(value)
        fault = id_fault(key) if key else "an id is empty"
        if key in seen:
            fault = f"'{key}' twice"
        elif not _is_readable_value(text):
            fault = f"'{key}' has the value {text!r}; wanted one line of UTF-8 without blanks around it"
        if fault is not None:
            raise DataError(path, f"can't be written: {fault}")
        seen.add(key)
        lines.append(f"{key} {text}\n")
    with open_output(path, "w") as stream:
        stream.writelines(lines)


def _is_readable_value(text: str) -> bool:
    is_utf8 = text.encode("utf-8", "replace").decode("utf-8") == text  # a path's stray byte is a lone surrogate
    return is_utf8 and text != "" and text.strip(" \t") == text and not set(text) & set("\n\r\0")
