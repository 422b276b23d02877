"""Ids of a column by the million, as numbers."""

import array
import itertools

import numpy as np
import polars as pl

from speakerkit.io.tables import id_fault

MAX_ID_CHARS = 65_536
_MOST_JUMPS = 12         # in a block that repeats what was before; a block with more is looked up
_PROBE = 256             # ids that are compared first; as long as they are the same, eight times as many
_FURTHEST_BACK = 1 << 22  # lines


class IdColumn:
    """Ids as numbers, in the order of their first appearance.

    Lists repeat themselves: an enrolment stands on many lines, and the next one is tried on the same tests. So the
    ids of a block are first compared with those a certain distance before them, a line or a whole round of tests,
    which takes a quarter of looking them up. An id that differs is looked up alone; where it stood the last time
    says how far back to go on. A block with many such ids is looked up as a whole.

    Args:
        numbers: of another column whose numbering this one goes on with.
    """

    def __init__(self, numbers: dict[str, int] | None = None):
        self.numbers: dict[str, int] = {} if numbers is None else numbers
        self.index = array.array("i")
        self._distance = 0  # in lines, back to the ids that come again; 0: none do
        self._last_jump = ""
        self._names = pl.Series(dtype=pl.String)  # by number, as far as they were wanted
        self._enum: pl.Enum | None = None
        self._repeating, self._looking_up = _Patience(), _Patience()
        self._num_asked = 0

    def append(self, name: str) -> None:
        self.index.append(self.numbers.setdefault(name, len(self.numbers)))

    def extend(self, column: pl.Series) -> None:
        """Add a block of ids, a series of strings without nulls."""
        if self._repeating.is_ready():
            column = self._repeat_with_jumps(column)
            if len(column):
                self._repeating.disappoint()
        if len(column):
            self._look_up(column)
            self._distance = 0

    def _repeat_with_jumps(self, column: pl.Series) -> pl.Series:
        """Add ids as long as they repeat others, with a few jumps; what is left of the column."""
        for _ in range(_MOST_JUMPS):
            column = column[self._repeat(column):]
            if not len(column):
                break
            self._jump(column[0])
            column = column[1:]
        return column

    def _repeat(self, column: pl.Series) -> int:
        """Add the ids at the start of a column that are those of `_distance` lines before; how many there are."""
        num_added, size = 0, _PROBE
        while self._distance and len(part := column[num_added:num_added + size]):
            first = len(self.index) - self._distance
            round_before = np.array(self.index[first:first + len(part)], dtype=np.int32)
            numbers = np.tile(round_before, -(-len(part) // len(round_before)))[:len(part)]
            is_same = (part == (self._last_jump if self._distance == 1 else self._names_of(numbers))).to_numpy()
            num_same = len(part) if is_same.all() else int(np.argmin(is_same))
            self._add(numbers[:num_same])
            num_added += num_same
            if num_same < len(part):
                break
            size *= 8
        return num_added

    def _add(self, numbers: np.ndarray) -> None:
        self.index.frombytes(np.ascontiguousarray(numbers, dtype=np.int32).view(np.uint8))

    def _names_of(self, numbers: np.ndarray) -> pl.Series:
        if len(self._names) < len(self.numbers):
            self._names = pl.Series(list(self.numbers), dtype=pl.String)
        return self._names.gather(numbers)

    def _jump(self, name: str) -> None:
        """Add an id that repeats none. What follows is what followed it the last time; a new one itself."""
        number = self.numbers.get(name)
        self._distance = 1 if number is None else self._lines_since(number)
        self._last_jump = name
        self.append(name)

    def _lines_since(self, number: int) -> int:
        """How many lines ago a number stood; 0 where that is too far back to look."""
        size = len(self.index)
        window, furthest = 1 << 12, min(_FURTHEST_BACK, size)
        while True:
            places = np.flatnonzero(np.frombuffer(self.index, dtype=np.int32)[max(0, size - window):] == number)
            if len(places):
                return min(window, size) - int(places[-1])
            if window >= furthest:
                return 0
            window *= 8

    def _look_up(self, column: pl.Series) -> None:
        """Add ids by name.

        A block that brought no new id makes polars look the next one's up among those that are known, which is
        faster than numbering its categories here; an unknown one ends that for some blocks.
        """
        if self._enum is not None:
            try:
                self._add(column.cast(self._enum).to_physical().to_numpy())
                return
            except pl.exceptions.PolarsError:
                self._enum = None
                self._looking_up.disappoint()
        num_before = len(self.numbers)
        column = column.cast(pl.Categorical())
        codes = column.to_physical().to_numpy()
        self._add(self._number_categories(column, codes)[codes])
        if self._looking_up.is_ready() and len(self.numbers) == num_before:
            self._enum = pl.Enum(pl.Series(list(self.numbers), dtype=pl.String))

    def _number_categories(self, column: pl.Series, codes: np.ndarray) -> np.ndarray:
        """Number of each category; their codes mean something within the block only."""
        first = np.full(int(codes.max()) + 1, -1)
        first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of equal codes the last assignment stays
        used = np.flatnonzero(first >= 0)
        used = used[np.argsort(first[used])]
        numbers = np.empty(len(first), dtype=np.int32)
        names = column.gather(first[used]).cast(pl.String).to_list()
        numbers[used] = [self.numbers.setdefault(name, len(self.numbers)) for name in names]
        return numbers

    def to_numpy(self) -> np.ndarray:
        return np.frombuffer(self.index, dtype=np.int32)

    def last(self, num_lines: int) -> np.ndarray:
        """(num_lines,) int64 numbers of the last lines; what is too far back to be compared is forgotten."""
        numbers = np.array(self.index[len(self.index) - num_lines:], dtype=np.int64)
        if len(self.index) > 2 * _FURTHEST_BACK:
            del self.index[:-_FURTHEST_BACK]
        return numbers

    def is_plain(self) -> bool:
        """Whether no id holds what the line-by-line reader refuses or takes for a separator.

        Those that were there when this was asked before are not looked at again.
        """
        num_new, self._num_asked = len(self.numbers) - self._num_asked, len(self.numbers)
        return all(id_fault(name) is None and len(name) <= MAX_ID_CHARS
                   for name in itertools.islice(reversed(self.numbers), num_new))


class _Patience:
    """When to try a shortcut again that didn't do: each time after twice as many blocks."""

    def __init__(self):
        self._blocks_left, self._wait = 0, 1

    def is_ready(self) -> bool:
        """Whether to try it for this block."""
        self._blocks_left -= self._blocks_left > 0
        return self._blocks_left == 0

    def disappoint(self) -> None:
        """It didn't do."""
        self._blocks_left, self._wait = self._wait + 1, 2 * self._wait
