"""Cosine scores of embeddings: one pair, or a whole list of trials by matrix products.

A list's scores are exact sums. Rows of length 1 are rounded to multiples of 2^-26 (which moves a cosine by
some 1e-9, less than float32 can tell), so that every product is a multiple of 2^-52, every partial sum is
below 2, and float64 holds all of them. Whatever the order of summation, the score is the same number: it
depends on no library, thread count, block or neighbour.
"""

import itertools

import numpy as np

_DENSE_PAIRS_PER_TRIAL = 64     # a product of all pairs costs less than fetching rows up to about here
_BLOCK_SCORES = 1 << 22         # scores of one block of the full product: 32 MB of float64
_BLOCK_VALUES = 1 << 21         # embedding values fetched at a time: 16 MB of float64 a side
_MOST_TAKEN = 1 << 23           # values of rows taken out of their matrix for a product: 32 MB, and 64 in float64
_GRID = np.float32(2.0**26)     # steps of a value of a row of length 1


def length_normalise(embeddings: np.ndarray) -> np.ndarray:
    """Scale each row to length 1.

    Args:
        embeddings: (num, dim) real numbers.

    Returns:
        (num, dim) float32. Lengths are computed in float64, so no finite float32 row overflows.

    Raises:
        ValueError: a row is zero or not finite, for neither has a direction.
    """
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings have shape {embeddings.shape}; want (num, dim)")
    lengths = _lengths(embeddings)
    return (embeddings / lengths[:, None]).astype(np.float32, copy=False)


def scoring_rows(embeddings: np.ndarray) -> np.ndarray:
    """Rows of length 1 on the grid that makes their products exact; what `exact_products` takes.

    Args:
        embeddings: (num, dim) real numbers.

    Returns:
        (num, dim) float32, multiples of 2^-26.

    Raises:
        ValueError: as `length_normalise`.
    """
    rows = length_normalise(embeddings)
    rows = rows.copy() if rows is embeddings else rows
    rows *= _GRID  # a power of two: exact, and so is the way back
    np.rint(rows, out=rows)
    rows /= _GRID
    return rows


def exact_products(enrol: np.ndarray, test: np.ndarray) -> np.ndarray:
    """(num_enrol, num_test) float32 cosines of all pairs of rows of `scoring_rows`, each nearest its exact sum."""
    return _to_cosines(enrol.astype(np.float64, copy=False) @ test.astype(np.float64, copy=False).T)


def exact_pairs(enrol: np.ndarray, test: np.ndarray, enrol_index: np.ndarray, test_index: np.ndarray) -> np.ndarray:
    """(num_trials,) the same numbers for chosen pairs of rows, some thousands of trials at a time."""
    scores = np.empty(len(enrol_index), dtype=np.float32)
    rows = max(1, _BLOCK_VALUES // max(1, enrol.shape[1]))
    for start in range(0, len(scores), rows):
        part = slice(start, start + rows)
        sums = np.einsum("td,td->t", enrol[enrol_index[part]], test[test_index[part]], dtype=np.float64)
        scores[part] = _to_cosines(sums)
    return scores


def exact_scores(enrol: np.ndarray, test: np.ndarray, enrol_index: np.ndarray, test_index: np.ndarray) -> np.ndarray:
    """(num_trials,) the same numbers the faster way: trials that name few rows many times come out of a product."""
    enrol_used, enrol_place = _used(enrol_index, len(enrol))
    test_used, test_place = _used(test_index, len(test))
    num_products = len(enrol_used) * len(test_used)
    if num_products > _DENSE_PAIRS_PER_TRIAL * len(enrol_index) or test_used.size * test.shape[1] > _MOST_TAKEN:
        return exact_pairs(enrol, test, enrol_index, test_index)
    return _from_full_product(enrol[enrol_used], test[test_used], enrol_place, test_place)


def _used(index: np.ndarray, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that an index names, ascending, and the index as places among them."""
    is_used = np.zeros(num_rows, dtype=bool)
    is_used[index] = True
    used = np.flatnonzero(is_used)
    place = np.empty(num_rows, dtype=np.int64)
    place[used] = np.arange(len(used))
    return used, place[index]


def _to_cosines(sums: np.ndarray) -> np.ndarray:
    sums += 0.0  # a zero has a sign, and the order of summation would decide it
    return np.clip(sums, -1.0, 1.0, out=sums).astype(np.float32)  # the grid can leave a cosine of 1.00000001


def _lengths(embeddings: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64))
    unusable = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(unusable):
        raise ValueError(f"embedding {unusable[0]} is zero or not finite")
    return lengths


def cosine_score(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two embeddings (dim,): in [-1, 1], higher means more alike.

    Raises:
        ValueError: the shapes differ, or one of them is zero or not finite.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"embeddings have shapes {a.shape} and {b.shape}; want two of (dim,)")
    length_a, length_b = _lengths(np.stack([a, b]))
    return float(np.clip((a / length_a) @ (b / length_b), -1.0, 1.0))


def cosine_scores(enrol: np.ndarray, test: np.ndarray, enrol_index: np.ndarray, test_index: np.ndarray) -> np.ndarray:
    """Cosine scores of a list of trials.

    Args:
        enrol: (num_enrol, dim) embeddings of the enrolments.
        test: (num_test, dim) embeddings of the test utterances.
        enrol_index: (num_trials,) the row of `enrol` in each trial.
        test_index: (num_trials,) the row of `test` in each trial.

    Returns:
        (num_trials,) float32 in [-1, 1], in the order of the trials.

    Raises:
        ValueError: the dimensions or the lengths of the lists differ, or an embedding is zero or not finite.

    Where the trials are a good part of all pairs, whole blocks of the product are computed and the
    trials picked out of them; otherwise the rows of each trial are fetched. Either way the memory
    beyond the arguments and the result is bounded.
    """
    enrol, test = scoring_rows(enrol), scoring_rows(test)
    enrol_index, test_index = np.asarray(enrol_index), np.asarray(test_index)
    if enrol.shape[1] != test.shape[1]:
        raise ValueError(f"enrolment embeddings have {enrol.shape[1]} values, test embeddings {test.shape[1]}")
    if enrol_index.ndim != 1 or enrol_index.shape != test_index.shape:
        raise ValueError(f"trials have {enrol_index.shape} enrolments and {test_index.shape} tests; want as many")
    is_dense = len(enrol) * len(test) <= _DENSE_PAIRS_PER_TRIAL * len(enrol_index)
    return (_from_full_product if is_dense else exact_pairs)(enrol, test, enrol_index, test_index)


def _from_full_product(enrol: np.ndarray, test: np.ndarray, enrol_index: np.ndarray,
                       test_index: np.ndarray) -> np.ndarray:
    """Blocks of enrolments against all tests; each trial is picked out of its block."""
    rows, test = max(1, _BLOCK_SCORES // len(test)), test.astype(np.float64)
    if len(enrol) <= rows:
        return exact_products(enrol, test).ravel().take(enrol_index.astype(np.int64) * len(test) + test_index)
    scores = np.empty(len(enrol_index), dtype=np.float32)
    order = np.argsort(enrol_index, kind="stable")
    starts = np.searchsorted(enrol_index, np.arange(0, len(enrol) + rows, rows), sorter=order)
    for block, (start, stop) in enumerate(itertools.pairwise(starts)):
        first = block * rows
        product = exact_products(enrol[first:first + rows], test)
        trials = order[start:stop]
        scores[trials] = product[enrol_index[trials] - first, test_index[trials]]
    return scores
