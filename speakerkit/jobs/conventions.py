"""A score file measured as another toolkit's script measures it."""

import math
import os
from collections.abc import Sequence

from speakerkit.errors import DataError
from speakerkit.jobs import scoring
from speakerkit.scoring.conventions import CONVENTIONS, print_as


def takes_point(convention: str) -> bool:
    """Whether the toolkit's script has options for the operating point."""
    return CONVENTIONS[convention].takes_point


def print_score_file_as(convention: str, trials_path: str | None, scores_path: str, given: Sequence[float | None],
                        options: scoring.ScoringOptions, report: dict) -> None:
    """What a toolkit's script prints for a score file, into the report.

    Args:
        convention: a key of `scoring.conventions.CONVENTIONS`.
        trials_path, scores_path, options: as of `scoring.measure_score_file`; of the options not the point.
        given: p_target, c_miss, c_fa; None: what the toolkit uses.
        report: filled with counts, `convention`, `printed`, the same numbers with all digits, and the protocol.

    Raises:
        DataError, DataErrors: as `scoring.measure_score_file`; scores on which the script fails.
    """
    scored = scoring.read_scored_trials(trials_path, scores_path, options)
    scores, is_target = scored.in_file_order()
    usual = CONVENTIONS[convention].point
    point = scoring.OperatingPoint(*[usual[place] if value is None else value for place, value in enumerate(given)])
    chosen = None if all(value is None for value in given) else tuple(point)
    try:
        printed = print_as(convention, scores, is_target, chosen, os.path.basename(scored.scores_path))
    except ValueError as error:
        raise DataError(scored.scores_path, f"{convention}: {error}") from None
    num_target = int(is_target.sum())
    report.update(scoring.count_trials(scored.trials, {}))
    report.update(convention=convention, printed=printed.text, num_target=num_target,
                  num_nontarget=len(is_target) - num_target)
    report.update((name, value if math.isfinite(value) else None) for name, value in printed.metrics.items())
    report["protocol"] = scoring.protocol_of_score_file(scored, point)
