"""The nearest of many rows, exactly: a pass over a compact copy, then the true products of the few that may win.

Rows x and query q become whole numbers: S x = X + e, T q = Q + f. Then S T x.q = X.Q + X.f + e.(T q), so by
Cauchy-Schwarz X.Q is off by at most |X| |f| + |e| |T q|. Rows whose X.Q is more than twice that below the k-th
largest can't be among the k nearest. The rest are scored in float64. X.Q is computed in 16 bits, of which none
is lost: S and T are chosen so that |X| |Q| fits in them. 100,000 rows of 256 values are 51 MB so, half of float32,
and lie column by column, which is how a processor multiplies short integers without waiting.
"""

import functools
from dataclasses import dataclass

import numpy as np

COMPACT_FROM = 4096  # rows; fewer are searched at once
_BLOCK = 4096        # rows side by side: their 16-bit sums stay in the nearest cache
_GROUP = 256         # rows of which the largest product is taken at a time
_LARGEST = 32766     # of a product in 16 bits
_FEW = 64            # rows that are scored in float64 without being told apart in float32 before
_ROUNDOFF = 2.0**-24  # of float32
_MOST_VALUES = 1 << 22  # computed in float64 at a time: 32 MB


@dataclass(frozen=True, eq=False)
class _Compact:
    """All rows in 16 bits."""

    blocks: list[np.ndarray]  # of (dim, at most _BLOCK) int16
    longest: float            # the largest length of a row, in their unit
    error: float              # the largest length of what rounding took from a row, in their unit


class NearestRows:
    """Rows of which the nearest to a query are asked for again and again. It never changes; safe from many threads.

    Args:
        rows: (num, dim) float32, finite; kept, not copied.

    A first search is one product of all rows in float32. After ``prepare`` each is many times as fast.
    """

    def __init__(self, rows: np.ndarray):
        if rows.ndim != 2 or rows.dtype != np.float32:
            raise ValueError(f"rows are {rows.dtype} of shape {rows.shape}; want float32 (num, dim)")
        self.rows = rows
        self._compact: _Compact | None = None

    def prepare(self) -> "NearestRows":
        """Make the compact copy, once, from COMPACT_FROM rows on: half the rows' memory, 3 us a row. Returns itself."""
        if self._compact is None:
            self._compact = self._make_compact()
        return self

    def top(self, query: np.ndarray, count: int) -> list[int]:
        """The rows of greatest product with a query, greatest first; of equal ones the earlier first.

        Args:
            query: (dim,) float32, finite.
            count: how many at most, 1 or more.

        The products that decide are those in float64, each row's by itself: the answer is that of a sort of them all.
        """
        if count < 1:
            raise ValueError(f"top is {count}; want 1 or more")
        query = np.ascontiguousarray(query, np.float32)
        if query.shape != self.rows.shape[1:]:
            raise ValueError(f"query has shape {query.shape}; want {self.rows.shape[1:]}")
        places = None
        if self._compact is not None and count <= len(self.rows) // 64:
            places = self._candidates(query, count)
        if places is None or len(places) > max(_FEW, 8 * count):
            places = self._closer_candidates(query, count, places)
        scores = exact_products(self.rows, places, query)
        return places[np.argsort(-scores, kind="stable")[:count]].tolist()

    @functools.cached_property
    def _longest(self) -> float:
        """The largest length of a row."""
        squares = np.einsum("nd,nd->n", self.rows, self.rows, dtype=np.float64) if len(self.rows) else np.zeros(1)
        return float(np.sqrt(squares.max()))

    def _make_compact(self) -> _Compact | None:
        count, dim = self.rows.shape
        room = np.sqrt(_LARGEST) - np.sqrt(dim)  # rounding makes a row longer by sqrt(dim) / 2 at most
        if count < COMPACT_FROM or room <= 0 or not 0 < self._longest < np.inf:
            return None
        scale, blocks, longest, error = room / self._longest, [], 0.0, 0.0
        for first in range(0, count, _BLOCK):
            scaled = self.rows[first : first + _BLOCK] * np.float64(scale)
            whole = np.rint(scaled)
            longest = max(longest, float(np.einsum("nd,nd->n", whole, whole).max()))
            scaled -= whole
            error = max(error, float(np.einsum("nd,nd->n", scaled, scaled).max()))
            blocks.append(np.ascontiguousarray(whole.T, np.int16))
        return _Compact(blocks, np.sqrt(longest), np.sqrt(error) * (1 + 1e-9)) if longest else None

    def _candidates(self, query: np.ndarray, count: int) -> np.ndarray | None:
        """Rows, in order, among which the ``count`` nearest are; None: that can't be told here."""
        compact, length = self._compact, float(np.linalg.norm(query.astype(np.float64)))
        if not 0 < length < np.inf:
            return None
        scaled = query * ((_LARGEST / compact.longest - np.sqrt(len(query)) / 2) / length)
        whole = np.rint(scaled.astype(np.float64))
        products = np.empty(len(self.rows), np.int16)
        for number, block in enumerate(compact.blocks):
            np.einsum("d,dn->n", whole.astype(np.int16), block, out=products[number * _BLOCK :][: block.shape[1]])
        bound = compact.longest * np.linalg.norm(scaled - whole) + compact.error * np.linalg.norm(scaled)
        lowest = _at_least(products, count) - 2 * (bound * (1 + 1e-6) + 1e-6)
        return np.flatnonzero(products >= max(int(np.floor(lowest)), -_LARGEST - 1))

    def _closer_candidates(self, query: np.ndarray, count: int, places: np.ndarray | None) -> np.ndarray:
        """The same by products in float32, of which rounding takes at most dim * 2^-24 of the lengths' product."""
        if places is None or 4 * len(places) > len(self.rows):  # to fetch so many one by one takes longer
            places = np.arange(len(self.rows))
            products = self.rows @ query
        else:
            products = self.rows[places] @ query
        if count >= len(places):
            return places
        share = len(query) * _ROUNDOFF / (1 - len(query) * _ROUNDOFF)
        bound = share * self._longest * float(np.linalg.norm(query.astype(np.float64))) + 1e-40
        lowest = float(np.partition(products, -count)[-count]) - 2.01 * bound
        return places[~(products < lowest)]  # what is no number stays, as in a sort


def _at_least(products: np.ndarray, count: int) -> int:
    """A value that at least ``count`` of the products reach: near the count-th largest, and quick."""
    whole = len(products) // _GROUP * _GROUP
    largest = products[:whole].reshape(-1, _GROUP).max(axis=1)
    if count > len(largest):
        largest = products
    return int(np.partition(largest, -count)[-count])


def exact_products(rows: np.ndarray, places: np.ndarray, query: np.ndarray) -> np.ndarray:
    """(len(places),) float64: products of some rows, each the same whichever others are asked for."""
    query, scores = query.astype(np.float64), np.empty(len(places))
    step = max(1, _MOST_VALUES // rows.shape[1])
    for first in range(0, len(places), step):
        part = places[first : first + step]
        scores[first : first + step] = (rows[part] * query).sum(axis=1)
    return scores
