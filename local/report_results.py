"""The end of a recipe: one table of its results and their DET curves as a picture."""

import argparse
import json
import sys
from pathlib import Path

from speakerkit.cli import entry
from speakerkit.errors import DataError

HEADER = ("trials", "EER %", "minDCF", "p_target, c_miss, c_fa", "target", "nontarget")


def read_result(path: str) -> dict:
    """The --json object of score-trials or compute-metrics."""
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, f"is no result: {error}") from None
    if "eer_percent" not in result:
        raise DataError(path, "has no 'eer_percent'; wanted what score-trials --json writes for labelled trials")
    return result


def table_row(name: str, result: dict) -> tuple[str, ...]:
    """A result's cells, in the header's order."""
    point = ", ".join(f"{result[f'dcf_{key}']:g}" for key in ("p_target", "c_miss", "c_fa"))
    return (name, f"{result['eer_percent']:.2f}", f"{result['min_dcf']:.4f}", point,
            f"{result['num_target']:,}", f"{result['num_nontarget']:,}")


def nontarget_rows(name: str, result: dict) -> list[tuple[str, ...]]:
    """Rows of what break-down-results --nontargets-by found: all targets against a part of the nontargets each."""
    rows = []
    for breakdown in result.get("breakdowns", ()):
        if not breakdown["share_targets"]:
            continue
        kinds = [factor.removeprefix("pair_") for factor in breakdown["by"]]
        for cell in breakdown["cells"]:
            words = ", ".join(f"{value} {kind}" for value, kind in zip(cell["values"], kinds, strict=True))
            if cell["eer_percent"] is None:
                cells = ("-", "-", "", f"{cell['num_target']:,}", f"{cell['num_nontarget']:,}")
            else:
                cells = table_row("", result | cell)[1:]
            rows.append((f"{name}, nontargets of {words}", *cells))
    return rows


def tell_protocol(name: str, result: dict) -> str:
    """What a result was measured on, as a line; nothing where that isn't known."""
    protocol = result.get("protocol")
    if not protocol:
        return ""
    told = (f"- {name}: {Path(protocol['trials']).name} (SHA-256 {protocol['trials_sha256'][:8]}), enrolment by "
            f"{protocol['enrolment']}")
    if protocol.get("model"):
        told += f", model {protocol['model']} (SHA-256 {protocol['model_sha256'][:8]}, {protocol['precision']})"
    return f"{told}\n"


def format_table(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table whose columns line up."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]) + "\n"


def det_curve(trials_path: str, scores_path: str) -> tuple:
    """The drawn points of scored trials' DET curve."""
    from speakerkit.io.scores import read_scores
    from speakerkit.io.trials import read_trials
    from speakerkit.scoring.det_plot import det_points
    from speakerkit.scoring.metrics import compute_det

    trials = read_trials(trials_path)
    scores = read_scores(scores_path, trials)
    return det_points(compute_det(scores[trials.is_target], scores[~trials.is_target]))


def report(args: argparse.Namespace) -> None:
    from speakerkit.io.files import write_text
    from speakerkit.io.plots import draw_det
    from speakerkit.scoring.det_plot import det_ticks

    rows, protocols = [], ""
    for name, _, _, path in args.scored:
        result = read_result(path)
        rows.append(table_row(name, result))
        protocols += tell_protocol(name, result)
        rows += [row for other, broken_down in args.broken_down if other == name
                 for row in nontarget_rows(name, read_result(broken_down))]
    table = format_table([HEADER, *rows])
    table += f"\n{protocols}" if protocols else ""
    if args.seconds is not None:
        table += f"\n{args.seconds / 60:.1f} minutes\n"
    write_text(args.table, table)
    curves = {name: det_curve(trials, scores) for name, trials, scores, _ in args.scored}
    try:
        draw_det(args.picture, curves, det_ticks())
        entry.log.info("DET curves: %s", args.picture)
    except ModuleNotFoundError as error:
        entry.log.warning("no DET curves: %s isn't installed; pip install 'speakerkit[plot]'", error.name)


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "report_results.py",
        summary="Write results as a Markdown table, and their DET curves as a picture.",
        example="local/report_results.py --scored full data/eval/trials exp/x/scores exp/x/result.json "
                "exp/x/results.md exp/x/det.png")
    parser.add_argument("table", metavar="results.md", help="where the table goes")
    parser.add_argument("picture", metavar="det.png", help="where the curves go")
    parser.add_argument("--scored", nargs=4, action="append", required=True,
                        metavar=("NAME", "TRIALS", "SCORES", "RESULT"), help="one row and one curve; may be repeated")
    parser.add_argument("--broken-down", nargs=2, action="append", default=[], metavar=("NAME", "RESULT"),
                        help="what break-down-results --nontargets-by --json wrote: rows below that name's")
    parser.add_argument("--seconds", type=entry.number(float, 0, 1e9), metavar="S", help="how long the recipe took")
    return entry.run(parser, report, argv)


if __name__ == "__main__":
    sys.exit(main())
