"""Trials told apart by what tables say of their two sides: genre, duration, gender, session, room."""

import dataclasses
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from speakerkit.errors import DataError, raise_all
from speakerkit.io.files import sha256_file
from speakerkit.io.spooled import readable_twice
from speakerkit.io.tables import Table, parse_number, read_utt2value, sort_key
from speakerkit.io.trials import Trials

log = logging.getLogger(__name__)

SIDES = ("enrol", "test", "pair")
UNKNOWN = "(unknown)"
MOST_VALUES = 2000


@dataclass(frozen=True)
class Factor:
    """What trials are told apart by.

    Attributes:
        side: `enrol` or `test`, the value of that side's id; `pair`, whether both sides have the same value.
        table: a file of '<id> <value>' lines.
        edges: ascending; values are numbers and fall into the bins between these, an edge into the bin above
            it. None: values are words.
    """
    side: str
    table: str
    edges: tuple[float, ...] | None = None

    def __post_init__(self):
        if self.side not in SIDES:
            raise ValueError(f"side is '{self.side}'; want one of {', '.join(SIDES)}")
        if self.edges is not None and (not self.edges or list(self.edges) != sorted(set(self.edges))):
            raise ValueError(f"edges are {self.edges}; want ascending numbers")

    @property
    def name(self) -> str:
        """E.g. `test_genre` of the test side's utt2genre."""
        stem = os.path.splitext(os.path.basename(self.table))[0]
        return f"{self.side}_{re.sub('^[a-z]+2(?=.)', '', stem)}"


@dataclass(frozen=True)
class Conditions:
    """The cells of a breakdown that hold trials.

    Attributes:
        cells: (num_trials,) the cell of each trial.
        names: (num_cells,) what each cell stands for, a value a factor, in order.
        values: (num_factors,) each factor's values, in order, the unknown one last if there is one.
    """
    cells: np.ndarray
    names: list[tuple[str, ...]]
    values: list[list[str]]


def read_factor_tables(factors: Sequence[Factor]) -> tuple[dict[str, Table], dict[str, str]]:
    """Each table once, by its path, and the SHA-256 of its bytes; a pipe may be a table.

    Raises:
        DataError, DataErrors: as `read_utt2value`.
    """
    tables, sha256 = {}, {}
    for path in dict.fromkeys(factor.table for factor in factors):
        with readable_twice(path) as (real_path, name):
            tables[path] = dataclasses.replace(read_utt2value(real_path), path=name)
            sha256[path] = sha256_file(real_path)
    return tables, sha256


def find_conditions(trials: Trials, factors: Sequence[Factor], tables: Mapping[str, Table],
                    enrol_map: Mapping[str, list[str]]) -> Conditions:
    """Put every trial into the cell of its factors' values.

    Args:
        trials: the list.
        factors: one or more.
        tables: path -> '<id> <value>' lines.
        enrol_map: enrolment -> utterances. An enrolment that a table doesn't hold has their values: numbers
            summed, words as they are if all agree, else joined by `+`.

    Raises:
        DataError: a table holds none of the ids, or too many different words. DataErrors: a value that is no
            number where there are edges.
    """
    cells, values = np.zeros(len(trials), dtype=np.int64), []
    for factor in factors:
        codes, words = _code_trials(trials, factor, tables[factor.table], enrol_map)
        cells = cells * len(words) + codes
        values.append(words)
    shape = [len(words) for words in values]
    if math.prod(shape) > len(trials):
        occupied, cells = np.unique(cells, return_inverse=True)
    else:  # the same without a sort
        is_occupied = np.bincount(cells) > 0
        occupied, cells = np.flatnonzero(is_occupied), (np.cumsum(is_occupied) - 1)[cells]
    places = zip(*np.unravel_index(occupied, shape), strict=True)
    names = [tuple(words[place] for words, place in zip(values, row, strict=True)) for row in places]
    return Conditions(cells, names, values)


def _code_trials(trials: Trials, factor: Factor, table: Table,
                 enrol_map: Mapping[str, list[str]]) -> tuple[np.ndarray, list[str]]:
    """(num_trials,) numbers of values, and these values."""
    sides = []
    if factor.side != "test":
        sides.append((*_code_ids(trials.enrol_ids, "enrol", factor, table, enrol_map), trials.enrol_index))
    if factor.side != "enrol":
        sides.append((*_code_ids(trials.test_ids, "test", factor, table, {}), trials.test_index))
    if len(sides) == 1:
        codes, values, index = sides[0]
        return codes[index], values
    number = {value: place for place, value in enumerate(dict.fromkeys(sides[0][1] + sides[1][1]))}
    enrol, test = (np.array([number[value] for value in values])[codes][index] for codes, values, index in sides)
    unknown = number.get(UNKNOWN, -1)
    return np.where((enrol == unknown) | (test == unknown), 2, enrol != test), ["same", "different", UNKNOWN]


def _code_ids(ids: Sequence[str], side: str, factor: Factor, table: Table,
              enrol_map: Mapping[str, list[str]]) -> tuple[np.ndarray, list[str]]:
    """(num_ids,) numbers of values, and these values in order, the unknown one last if there is one."""
    made_of = [[name] if name in table.values else enrol_map.get(name, [name]) for name in ids]
    is_known = [all(name in table.values for name in names) for names in made_of]
    if not any(is_known):
        raise DataError(table.path, f"has a value for none of the {len(ids):,} {side} ids, such as '{ids[0]}'")
    if not all(is_known):
        log.warning("%s: no value for %s of %s %s ids, such as '%s'; their trials stand under %s", table.path,
                    f"{is_known.count(False):,}", f"{len(ids):,}", side, ids[is_known.index(False)], UNKNOWN)
    known = [names for names, is_one in zip(made_of, is_known, strict=True) if is_one]
    codes, values = _code_words(known, factor, table) if factor.edges is None else _code_bins(known, factor, table)
    all_codes = np.full(len(ids), len(values))
    all_codes[is_known] = codes
    return all_codes, values if all(is_known) else [*values, UNKNOWN]


def _code_words(made_of: Sequence[list[str]], factor: Factor, table: Table) -> tuple[list[int], list[str]]:
    words = ["+".join(sorted({table.values[name] for name in names}, key=sort_key)) for names in made_of]
    values = sorted(set(words), key=sort_key)
    if len(values) > MOST_VALUES:
        raise DataError(table.path, f"{len(values):,} different values; at most {MOST_VALUES:,} make a breakdown "
                                    f"(numbers need edges, as in {factor.side}={factor.table}:2,5,10)")
    number = {value: place for place, value in enumerate(values)}
    return [number[word] for word in words], values


def _code_bins(made_of: Sequence[list[str]], factor: Factor, table: Table) -> tuple[np.ndarray, list[str]]:
    used = dict.fromkeys(name for names in made_of for name in names)
    numbers = {name: parse_number(table.values[name]) for name in used}
    raise_all([table.fault(name, f"value is '{table.values[name]}'; wanted a finite decimal number")
               for name, number in numbers.items() if number is None])
    sums = [math.fsum(numbers[name] for name in names) for names in made_of]
    edges = factor.edges
    inner = [f"{low:g}..{high:g}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
    return np.searchsorted(edges, sums, side="right"), [f"<{edges[0]:g}", *inner, f">={edges[-1]:g}"]
