"""Results by condition: the error rates of each cell of a trial list, as text and Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from speakerkit.io.trials import read_enrol_map
from speakerkit.jobs import scoring
from speakerkit.jobs.conditions import Conditions, Factor, find_conditions, read_factor_tables
from speakerkit.scoring.breakdown import compute_cell_metrics

_COLUMNS = {"num_target": "d", "num_nontarget": "d", "eer_percent": ".4f", "eer_threshold": ".4f", "min_dcf": ".4f",
            "min_dcf_threshold": ".4f"}


@dataclass(frozen=True)
class Split:
    """One breakdown: every combination of the factors' values that occurs is a cell.

    Attributes:
        factors: one or more.
        share_targets: only nontargets are split, and each cell has all targets of the list.
    """
    factors: tuple[Factor, ...]
    share_targets: bool = False


def break_down(trials_path: str, scores_path: str, splits: Sequence[Split], enrol_map_path: str | None,
               options: scoring.ScoringOptions, report: dict) -> None:
    """Metrics of a score file, of the whole list and of each cell of each breakdown, into the report.

    Args:
        trials_path: labelled trials; `-` is standard input.
        scores_path: '<enrol-id> <test-id> <score>' lines in any order; `-` is standard input.
        splits: how trials are told apart.
        enrol_map_path: '<enrol-id> <utt-id>...': what an enrolment's values are made of where a table doesn't
            hold it, see `find_conditions`.
        options: operating point and order of the trials' fields.
        report: filled with counts, metrics, the protocol, and `breakdowns`, a list of {by, share_targets,
            tables (and their SHA-256), values (of each factor), cells}; a cell is {values, num_target,
            num_nontarget, metrics..., note}, its metrics None where it has trials of one class only, and
            infinite thresholds too.

    Raises:
        DataError, DataErrors: as `scoring.measure_score_file`, `read_factor_tables` and `find_conditions`.
    """
    scored = scoring.read_scored_trials(trials_path, scores_path, options)
    enrol_map = read_enrol_map(enrol_map_path) if enrol_map_path else {}
    tables, sha256 = read_factor_tables([factor for split in splits for factor in split.factors])
    found = [find_conditions(scored.trials, split.factors, tables, enrol_map) for split in splits]
    report.update(scoring.count_trials(scored.trials, enrol_map))
    report.update(scoring.measure(scored.trials, scored.scores, options.point))
    report["protocol"] = scoring.protocol_of_score_file(scored, options.point) | {"enrol_map": enrol_map_path}
    report["breakdowns"] = [
        {"by": [factor.name for factor in split.factors], "share_targets": split.share_targets,
         "tables": {factor.table: sha256[factor.table] for factor in split.factors}, "values": conditions.values,
         "cells": _measure_cells(scored, split, conditions, options.point)}
        for split, conditions in zip(splits, found, strict=True)]


def _measure_cells(scored: scoring.ScoredTrials, split: Split, conditions: Conditions,
                   point: scoring.OperatingPoint) -> list[dict]:
    is_target, names = scored.trials.is_target, conditions.names
    measured = compute_cell_metrics(scored.scores, is_target, conditions.cells, len(names), point, split.share_targets)
    num_target, num_nontarget = (sum(cell[name] for cell in measured) for name in ("num_target", "num_nontarget"))
    assert num_nontarget == np.count_nonzero(~is_target), "cells lose or repeat trials"
    assert split.share_targets or num_target == np.count_nonzero(is_target), "cells lose or repeat trials"
    return [{"values": list(values), **{name: _finite(cell.get(name)) for name in _COLUMNS}, "note": _note(cell)}
            for values, cell in zip(names, measured, strict=True)
            if cell["num_nontarget"] or not split.share_targets]  # the shared targets are in every cell that is left


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def _note(cell: Mapping[str, int | float]) -> str | None:
    """Why a cell has no error rate, or why not to lean on it."""
    for name in ("target", "nontarget"):
        if cell[f"num_{name}"] == 0:
            return f"no {name} trials"
    num_errors = scoring.errors_at_eer(cell)
    if num_errors >= scoring.FEW_ERRORS:
        return None
    return "rests on 1 error" if round(num_errors) == 1 else f"rests on {num_errors:.0f} errors"


def format_breakdown(breakdown: Mapping[str, object], report: Mapping[str, object]) -> str:
    """A breakdown as columns of words: a header, the whole list, then a row a cell."""
    rows = _rows(breakdown, report)
    widths = [max(map(len, column)) for column in zip(*[row[:-1] for row in rows], strict=True)]
    num_names = len(breakdown["by"])
    lines = []
    for row in rows:
        cells = [text.ljust(width) if place < num_names else text.rjust(width)
                 for place, (text, width) in enumerate(zip(row[:-1], widths, strict=True))]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines) + "\n"


def _rows(breakdown: Mapping[str, object], report: Mapping[str, object]) -> list[list[str]]:
    """Header, whole list, cells: names, numbers and the note; `-` where there is no number."""
    cells = [{**report, "values": ["all"] * len(breakdown["by"]), "note": None}, *breakdown["cells"]]
    return [[*breakdown["by"], *_COLUMNS, "note"],
            *[[*cell["values"], *_numbers(cell), cell["note"] or ""] for cell in cells]]


def _numbers(cell: Mapping[str, object]) -> list[str]:
    texts = []
    for name, text_format in _COLUMNS.items():
        value = cell[name]
        if value is None:  # a threshold of infinity, unless there are no metrics at all
            texts.append("-" if cell["eer_percent"] is None else "inf")
        else:
            texts.append(f"{value:{text_format}}")
    return texts


def breakdowns_in_markdown(report: Mapping[str, object]) -> str:
    """All breakdowns as a page: of two factors also EER and minDCF as matrices; then what it all is a result of."""
    parts = ["# Results by condition", ""]
    for breakdown in report["breakdowns"]:
        title = " x ".join(breakdown["by"]) + (" (all targets in every row)" if breakdown["share_targets"] else "")
        parts += [f"## {title}", ""]
        if len(breakdown["by"]) == 2:
            for name, text_format in (("eer_percent", ".2f"), ("min_dcf", ".4f")):
                parts += [f"{name}, a row {breakdown['by'][0]}, a column {breakdown['by'][1]}:", "",
                          *_markdown_table(_matrix(breakdown, name, text_format)), ""]
        parts += [*_markdown_table(_rows(breakdown, report)), ""]
    parts += ["Protocol:", "", *[f"- {name}: {value}" for name, value in report["protocol"].items()], ""]
    return "\n".join(parts)


def _matrix(breakdown: Mapping[str, object], name: str, text_format: str) -> list[list[str]]:
    found = {tuple(cell["values"]): cell[name] for cell in breakdown["cells"]}
    rows, columns = ([value for value in values if any(pair[side] == value for pair in found)]
                     for side, values in enumerate(breakdown["values"]))
    texts = {pair: "-" if value is None else f"{value:{text_format}}" for pair, value in found.items()}
    return [["", *columns], *[[row, *[texts.get((row, column), "") for column in columns]] for row in rows]]


def _markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]
