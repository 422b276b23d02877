"""A result card as a page of Markdown."""

from collections.abc import Mapping

UNKNOWN = "not known"


def card_in_markdown(card: Mapping[str, object]) -> str:
    """The page of a card as `jobs.cards.make_card` makes it."""
    protocol, model = card["protocol"], card["model"]
    parts = [f"# {model['name'] or 'Scores'} on {protocol['name']}", "", *_error_rates(card), "", *_notes(card),
             "## What was measured", "", *_measured(card), "", "## Model", "",
             f"- name: {_text(model['name'])}", f"- SHA-256: {_text(model['sha256'])}",
             f"- precision: {_text(model['precision'])}", f"- training data: {_text(model['training_data'])}",
             f"- domain: {_text(model['domain'])}", "", f"speakerkit {card['version']}", ""]
    return "\n".join(parts)


def _error_rates(card: Mapping[str, object]) -> list[str]:
    level = (card["bootstrap"] or {}).get("level")
    head = f"{100 * level:g} % interval" if level else "interval"
    rows = [["metric", "value", head, "threshold", "actual", "at threshold"],
            ["EER %", _number(card["eer_percent"], ".2f"),
             _range(card["eer_percent_low"], card["eer_percent_high"], ".2f"),
             _threshold(card["eer_threshold"]), "", ""]]
    for cost in card["dcf"]:
        rows.append([f"minDCF({cost['p_target']:g}, {cost['c_miss']:g}, {cost['c_fa']:g})",
                     _number(cost["min_dcf"], ".4f"), _range(cost["min_dcf_low"], cost["min_dcf_high"], ".4f"),
                     _threshold(cost["min_dcf_threshold"]), _number(cost["actual_dcf"], ".4f"),
                     _number(cost["actual_dcf_threshold"], ".4f")])
    rows.append(["minCllr, Cllr", _number(card["min_cllr"], ".4f"), "", "", _number(card["cllr"], ".4f"), ""])
    return [_row(rows[0]), "|---" * len(rows[0]) + "|", *map(_row, rows[1:])]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _notes(card: Mapping[str, object]) -> list[str]:
    """What a reader must not miss."""
    notes = []
    for name in ("eer_note", "eer_doubt"):
        if card[name]:
            notes.append(f"- EER{', its interval' if name == 'eer_doubt' else ''}: {card[name]}.")
    notes += [f"- minDCF({cost['p_target']:g}, {cost['c_miss']:g}, {cost['c_fa']:g}), its interval: "
              f"{cost['min_dcf_doubt']}." for cost in card["dcf"] if cost["min_dcf_doubt"]]
    why_none = (card["bootstrap"] or {"why_none": "not asked for"}).get("why_none")
    if why_none:
        notes.append(f"- no confidence intervals: {why_none}.")
    if card["excluded"]["num_trials"]:
        notes.append(f"- {card['excluded']['num_trials']:,} trials were left out: this result compares with no other.")
    return [*notes, ""] if notes else []


def _measured(card: Mapping[str, object]) -> list[str]:
    protocol, excluded, bootstrap = card["protocol"], card["excluded"], card["bootstrap"]
    lines = [f"- trials: {protocol['trials']}", f"- SHA-256 of the trials: {protocol['trials_sha256']}",
             f"- {protocol['num_target']:,} target and {protocol['num_nontarget']:,} nontarget trials, "
             f"{protocol['num_enrolments']:,} enrolments, {protocol['num_tests']:,} test recordings",
             f"- enrolment: {protocol['enrolment']}", f"- scores: {protocol['scores']}",
             f"- SHA-256 of the scores: {protocol['scores_sha256']}", f"- left out: {_left_out(excluded)}",
             f"- actual DCF at: {card['actual_dcf_threshold_source'] or 'no threshold was stated'}",
             f"- calibration: {_calibration(card['calibration'])}"]
    if card["speakers"]:
        lines.append(f"- {card['speakers']['num_speakers']:,} speakers, {card['speakers']['num_with_targets']:,} with "
                     f"target trials, by {card['speakers']['source']}")
    if bootstrap and "level" in bootstrap:
        lines.append(f"- intervals: {bootstrap['method']}; {bootstrap['num_replicates']:,} draws, seed "
                     f"{bootstrap['seed']}")
    return lines


def _left_out(excluded: Mapping[str, object]) -> str:
    recordings = excluded["num_recordings"]
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(excluded["reasons"].items()))
    told = "recordings not known" if recordings is None else f"{recordings:,} recordings"
    return f"{excluded['num_trials']:,} trials, {told}{f' ({reasons})' if reasons else ''}"


def _calibration(calibration: Mapping[str, object] | None) -> str:
    if calibration is None:
        return "none, so there is no Cllr"
    return (f"llr = {calibration['scale']:.6g} * score {calibration['offset']:+.6g}, by {calibration['source']}")


def _text(value: object) -> str:
    return UNKNOWN if value is None else " ".join(str(value).split())


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _threshold(value: float | None) -> str:
    return "inf" if value is None else f"{value:.4f}"


def _range(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None else f"{low:{form}} to {high:{form}}"
