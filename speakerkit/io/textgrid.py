"""Praat TextGrids as annotated corpora really hold them: who spoke from when to when.

A TextGrid is a stream of free-standing numbers, "texts" and <flags>; all else on its lines is for
the eye (Praat manual, "TextGrid file formats"). Here what stands for the eye is checked too, so that
a time that is no number is told and not stepped over. Long and short form, UTF-8 and UTF-16 with or
without a byte-order mark, any line ends. Intervals need not touch: a tier may hold spoken ones only.
"""

import bisect
import dataclasses
import os
import re
from collections.abc import Iterable

from speakerkit.errors import DataError, raise_all
from speakerkit.io.tables import parse_number
from speakerkit.io.text_lines import encoding_hint

MAX_BYTES = 1 << 26  # a meeting of an hour has some 300 kB
_TOKEN = re.compile(r'"(?P<text>[^"]*+(?:""[^"]*+)*+)"|(?P<flag><\w+>)|(?P<comment>![^\n]*)|(?P<word>[^\s"=]+)'
                    r'|(?P<open>")')
_FOR_THE_EYE = {"File", "type", "Object", "class", "xmin", "xmax", "tiers?", "size", "item", "name", "intervals",
                "intervals:", "points", "points:", "text", "mark", "number", "time", "value"}
_COUNTED = re.compile(r"(item|intervals|points)?\s*\[\d*\]:?")  # item [1]:


@dataclasses.dataclass(frozen=True)
class Interval:
    """A stretch of a tier in seconds, and what was said in it."""

    start_s: float
    end_s: float
    text: str
    line: int  # where its start stands


@dataclasses.dataclass(frozen=True)
class Tier:
    """One named row of intervals, in the file's order."""

    name: str
    start_s: float
    end_s: float
    intervals: tuple[Interval, ...]
    line: int


@dataclasses.dataclass(frozen=True)
class TextGrid:
    """A whole file.

    Attributes:
        path: where it was read.
        start_s: where its time begins, as it says.
        end_s: where it ends, as it says; intervals may go on, and the recording may end before.
        tiers: interval tiers in the file's order; their names differ.
        oddities: what was left out or is odd but kept, each with its line.
    """

    path: str
    start_s: float
    end_s: float
    tiers: tuple[Tier, ...]
    oddities: tuple[DataError, ...]


def read_textgrid(path: str | os.PathLike, encoding: str | None = None, strict: bool = False) -> TextGrid:
    """Read a TextGrid.

    Args:
        path: the file.
        encoding: as Python names it; None: UTF-8, or UTF-16 where its mark or its NUL bytes show it.
        strict: refuse what is otherwise an oddity.

    Returns:
        The tiers. Left out and noted as oddities: intervals that end before or where they start, and
        point tiers. Kept and noted: intervals of a tier that overlap, or end after their tier.

    Raises:
        DataError: no TextGrid, wrong encoding, a time that is no plain decimal number or is negative, a
            count that isn't true, a file that breaks off, two tiers of one name. DataErrors: with
            `strict`, every oddity.
    """
    name = os.fspath(path)
    grid = _Parser(name, _decode(name, _read_bytes(name), encoding)).parse()
    if strict:
        raise_all(grid.oddities)
    return grid


def trim_intervals(intervals: Iterable[Interval], duration_s: float) -> tuple[list[Interval], int]:
    """Intervals as far as the recording goes.

    Args:
        intervals: of a tier.
        duration_s: where the recording ends.

    Returns:
        kept: what begins before the end, cut off there.
        num_trimmed: how many were cut or lie wholly after the end.
    """
    kept, num_trimmed = [], 0
    for interval in intervals:
        if interval.end_s <= duration_s:
            kept.append(interval)
            continue
        num_trimmed += 1
        if interval.start_s < duration_s:
            kept.append(dataclasses.replace(interval, end_s=duration_s))
    return kept, num_trimmed


def _read_bytes(name: str) -> bytes:
    try:
        with open(name, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DataError(name, "no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the path
        raise DataError(name, f"can't be read: {getattr(error, 'strerror', None) or error}".lower()) from error
    if len(data) > MAX_BYTES:
        raise DataError(name, f"has more than {MAX_BYTES >> 20} MiB; wanted a TextGrid")
    if not data.strip():
        raise DataError(name, "is empty; wanted a TextGrid")
    return data


def _decode(name: str, data: bytes, encoding: str | None) -> str:
    if encoding is None:
        encoding = _guess_encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = encoding_hint(data, "give its encoding: gb18030") if encoding == "utf-8" else ""
        raise DataError(name, f"byte 0x{data[error.start]:02x} is not {encoding.upper()}{hint}", line) from None
    except (LookupError, UnicodeError):
        raise DataError(name, f"'{encoding}' is no encoding of text") from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _guess_encoding(data: bytes) -> str:
    """UTF-16 by its mark, or by the NUL byte of each ASCII character that a TextGrid begins with."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if data[1:2] == b"\0":
        return "utf-16-le"
    return "utf-16-be" if data[:1] == b"\0" else "utf-8"


class _Parser:
    """The tokens of one file, taken one after the other."""

    def __init__(self, name: str, text: str):
        self.name = name
        self.text = text
        self.line_starts = [match.end() for match in re.finditer("\n", text)]
        self.tokens = _TOKEN.finditer(text)
        self.place = "the header"  # what is being read, for the message about a file that ends
        self.line = 1              # of the token taken last
        self.num_counted = 0       # intervals of the tier before, as its size says
        self.oddities: list[DataError] = []

    def parse(self) -> TextGrid:
        self._read_kind()
        start_s, end_s = self._time("the start"), self._time("the end")
        tiers: list[Tier] = []
        if self._have_tiers():
            num_tiers, line = self._count("tiers")
            for number in range(1, num_tiers + 1):
                self.place = f"tier {number} of {num_tiers}"
                if tiers:
                    self.place += f", after the {self.num_counted} intervals of tier '{tiers[-1].name}'"
                tiers += self._read_tier(number)
            self._check_end(f"line {line} says {num_tiers} tiers")
        self._check_names(tiers)
        return TextGrid(self.name, start_s, end_s, tuple(tiers), tuple(self.oddities))

    def _read_kind(self) -> None:
        if '"' not in self.text[:1000]:
            raise DataError(self.name, f"is no TextGrid: it starts with {self.text.strip()[:20]!r}")
        kinds = [self._take("'ooTextFile'", "text")]
        if kinds[0].startswith("ooTextFile"):
            kinds.append(self._take("'TextGrid'", "text"))
        if kinds[-1] != "TextGrid" and kinds[0] != "ooTextFile short":
            raise self._fault(f"is no TextGrid: it calls itself {kinds[-1]!r}")

    def _have_tiers(self) -> bool:
        flag = self._take("<exists> or <absent>", "flag")
        if flag not in ("<exists>", "<absent>"):
            raise self._fault(f"'{flag}'; wanted <exists> or <absent>")
        return flag == "<exists>"

    def _read_tier(self, number: int) -> list[Tier]:
        """The tier, if it is one of intervals; nothing for one of points."""
        kind = self._take("a tier's class", "text")
        line = self.line
        if kind not in ("IntervalTier", "TextTier"):
            raise self._fault(f"tier {number} is of class {kind!r}; wanted IntervalTier or TextTier")
        name = self._take("a tier's name", "text")
        start_s, end_s = self._time("the start"), self._time("the end")
        if kind == "TextTier":
            self._skip_points(name)
            return []
        num_intervals, _ = self._count("intervals")
        intervals = []
        for index in range(1, num_intervals + 1):
            self.place = f"interval {index} of {num_intervals} of tier '{name}'"
            interval = self._read_interval()
            if interval is not None:
                intervals.append(interval)
        self.num_counted = num_intervals
        self._note_overlaps(name, intervals, end_s)
        return [Tier(name, start_s, end_s, tuple(intervals), line)]

    def _read_interval(self) -> Interval | None:
        start_s = self._time("the start")
        line = self.line
        end_s = self._time("the end")
        text = self._take("the text", "text")
        if end_s <= start_s:
            how = "no length" if end_s == start_s else f"its end at {end_s:g} s, before its start"
            self._note(f"interval at {start_s:g} s has {how}; left out", line)
            return None
        return Interval(start_s, end_s, text, line)

    def _note_overlaps(self, name: str, intervals: list[Interval], tier_end_s: float) -> None:
        reached_s = 0.0
        for interval in sorted(intervals, key=lambda interval: (interval.start_s, interval.line)):
            if interval.start_s < reached_s:
                self._note(f"interval at {interval.start_s:g} s of tier '{name}' begins before an earlier one ends, "
                           f"at {reached_s:g} s", interval.line)
            if interval.end_s > tier_end_s:
                self._note(f"interval ends at {interval.end_s:g} s, after its tier '{name}', at {tier_end_s:g} s",
                           interval.line)
            reached_s = max(reached_s, interval.end_s)

    def _skip_points(self, name: str) -> None:
        num_points, line = self._count("points")
        for index in range(1, num_points + 1):
            self.place = f"point {index} of {num_points} of tier '{name}'"
            self._time("the time")
            self._take("the mark", "text")
        self._note(f"'{name}' is a tier of {num_points} points; left out", line)

    def _check_names(self, tiers: list[Tier]) -> None:
        seen: dict[str, int] = {}
        for tier in tiers:
            if tier.name in seen:
                raise DataError(self.name, f"a second tier is called '{tier.name}'; the first begins on line "
                                           f"{seen[tier.name]}", tier.line)
            seen[tier.name] = tier.line

    def _check_end(self, claim: str) -> None:
        for match in self.tokens:
            if match.lastgroup in ("text", "flag", "open") or self._is_value(match):
                self._set_line(match)
                raise self._fault(f"{_shown(match.group())} after the last tier; {claim}")

    # ---- tokens

    def _take(self, wanted: str, kind: str) -> str:
        """The next value, which must be of a kind: text, flag or word (a number)."""
        for match in self.tokens:
            if match.lastgroup == "comment" or (match.lastgroup == "word" and not self._is_value(match)):
                continue
            self._set_line(match)
            if match.lastgroup == "open":
                raise self._fault(f"a text without its closing quote; the file ends inside {self.place}")
            if match.lastgroup != kind:
                raise self._fault(f"{_shown(match.group())} in {self.place}; wanted {wanted}")
            return match.group("text").replace('""', '"') if kind == "text" else match.group()
        raise DataError(self.name, f"file ends inside {self.place}; wanted {wanted}", self._last_line())

    @staticmethod
    def _is_value(match: re.Match) -> bool:
        return match.lastgroup == "word" and match.group() not in _FOR_THE_EYE and not _COUNTED.fullmatch(match.group())

    def _time(self, wanted: str) -> float:
        text = self._take(wanted, "word")
        seconds = parse_number(text)
        if seconds is None:
            raise self._fault(f"'{text}' is no time; wanted seconds as a plain decimal number")
        if seconds < 0:
            raise self._fault(f"time of {text} s; wanted 0 or more")
        return seconds

    def _count(self, what: str) -> tuple[int, int]:
        text = self._take(f"the number of {what}", "word")
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise self._fault(f"'{text}' is no number of {what}")
        return int(text), self.line

    def _set_line(self, match: re.Match) -> None:
        self.line = bisect.bisect_right(self.line_starts, match.start()) + 1

    def _last_line(self) -> int:
        return bisect.bisect_right(self.line_starts, len(self.text.rstrip())) + 1

    def _note(self, message: str, line: int) -> None:
        self.oddities.append(DataError(self.name, message, line))

    def _fault(self, message: str) -> DataError:
        return DataError(self.name, message, self.line)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 30 else text[:27] + "...")
