"""Ids of a column by the million, as numbers."""

import array

import numpy as np
import polars as pl

from speakerkit.io.tables import id_fault

MAX_ID_CHARS = 65_536


class IdColumn:
    """Ids as numbers, in the order of their first appearance.

    A block that brought no new id makes polars look the next one's up among those that are known, which
    is several times as fast as numbering its categories here; an unknown one ends that for some blocks.
    """

    def __init__(self):
        self.numbers: dict[str, int] = {}
        self.index = array.array("i")
        self._known: pl.Enum | None = None
        self._blocks_to_wait, self._wait = 0, 1

    def append(self, name: str) -> None:
        self.index.append(self.numbers.setdefault(name, len(self.numbers)))

    @property
    def dtype(self) -> pl.DataType:
        """What the next block's ids are to be read as."""
        return self._known or pl.Categorical()

    def forget(self) -> None:
        """The block holds an id that isn't known: read it as categories."""
        if self._known is not None:
            self._known, self._blocks_to_wait, self._wait = None, self._wait, 2 * self._wait

    def extend(self, column: pl.Series) -> None:
        """Add a block of ids."""
        codes = column.to_physical().to_numpy()
        if self._known is not None:
            self.index.frombytes(codes.astype(np.int32).tobytes())
            return
        num_before = len(self.numbers)
        self.index.frombytes(self._number_categories(column, codes)[codes].tobytes())
        self._blocks_to_wait -= 1
        if len(self.numbers) == num_before and self._blocks_to_wait <= 0:
            self._known = pl.Enum(pl.Series(list(self.numbers), dtype=pl.String))

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

    def is_plain(self) -> bool:
        """Whether no id holds what the line-by-line reader refuses or takes for a separator."""
        return all(id_fault(name) is None and len(name) <= MAX_ID_CHARS for name in self.numbers)
