"""Ids as numbers: repeated, looked up or new, they are numbered as they appear."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerkit.io import id_column
from speakerkit.io.id_column import IdColumn

# What ids do in lists: one stands still, a round comes again (perhaps with some left out), or there is no order.
RUN = st.builds(lambda one, times: [one] * times, st.integers(0, 9), st.integers(1, 40))
ROUND = st.builds(lambda ids, times: ids * times, st.lists(st.integers(0, 9), min_size=1, max_size=7),
                  st.integers(1, 8))
ANY = st.lists(st.integers(0, 30), min_size=1, max_size=30)
LISTS = st.lists(RUN | ROUND | ANY, min_size=1, max_size=8).map(
    lambda parts: [f"id{number}" for part in parts for number in part])


def plain_numbers(names):
    numbers = {}
    return [numbers.setdefault(name, len(numbers)) for name in names], list(numbers)


def column_of(names, block_lines):
    column = IdColumn()
    for start in range(0, len(names), block_lines):
        column.extend(pl.Series(names[start:start + block_lines], dtype=pl.String))
    return column


@given(LISTS, st.integers(1, 50), st.integers(1, 9), st.integers(1, 5), st.integers(1, 60))
def test_numbers_are_those_of_a_dictionary(names, block_lines, probe, most_jumps, furthest_back):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_column, "_PROBE", probe)
        patch.setattr(id_column, "_MOST_JUMPS", most_jumps)
        patch.setattr(id_column, "_FURTHEST_BACK", furthest_back)
        column = column_of(names, block_lines)
    index, numbers = plain_numbers(names)
    assert column.to_numpy().tolist() == index
    assert list(column.numbers) == numbers


@pytest.mark.parametrize("names", [
    [f"enrol{line // 500}" for line in range(5000)],                     # runs
    [f"test{line % 700}" for line in range(5000)],                       # rounds longer than a block
    [f"test{line % 700}" for line in range(5000) if line % 1501 != 3],   # with tests left out
], ids=["runs", "rounds", "gaps"])
def test_lists_that_repeat_are_hardly_looked_up(monkeypatch, names):
    looked_up = []
    look_up = IdColumn._look_up
    monkeypatch.setattr(IdColumn, "_look_up",
                        lambda self, column: (looked_up.append(len(column)), look_up(self, column)))
    column = column_of(names, 300)
    assert column.to_numpy().tolist() == plain_numbers(names)[0]
    assert sum(looked_up) < 1800  # what has no round before it, and the blocks after it that aren't compared


def test_lists_without_order_are_soon_looked_up_only(monkeypatch):
    names = [f"id{number}" for number in np.random.default_rng(1).integers(1000, size=30_000)]
    compared = []
    repeat = IdColumn._repeat_with_jumps
    monkeypatch.setattr(IdColumn, "_repeat_with_jumps",
                        lambda self, column: (compared.append(len(column)), repeat(self, column))[1])
    column = column_of(names, 300)
    assert column.to_numpy().tolist() == plain_numbers(names)[0]
    assert len(compared) < 10  # of 100 blocks


def test_a_lookup_among_known_ids_is_given_up_where_one_is_new():
    names = [f"id{number}" for number in np.random.default_rng(1).integers(20, size=3000)]
    names = names[:2000] + ["new"] + names[2000:]
    assert column_of(names, 100).to_numpy().tolist() == plain_numbers(names)[0]
