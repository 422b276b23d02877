"""compute-metrics: EER and minDCF of scored trials."""

import argparse

from speakerkit.cli import entry
from speakerkit.cli.score_trials import add_trials_format_option

FORMATS = """
formats:
  trials      <enrol-id> <test-id> target|nontarget       or 1|0
  scores      <enrol-id> <test-id> <score>                the same pairs, in any order
"""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "compute-metrics",
        summary="Print equal error rate and minimum detection cost, a name and a value a line.",
        example="compute-metrics data/eval/trials exp/resnet34/scores --p-target 0.01 --c-miss 10",
        formats=FORMATS)
    parser.add_argument("trials", help="the labelled list, or - for standard input")
    parser.add_argument("scores", help="the score file, or - for standard input")
    add_trials_format_option(parser)
    entry.add_operating_point_options(parser)
    return entry.run(parser, compute_metrics, argv)


def compute_metrics(args: argparse.Namespace) -> None:
    from speakerkit.jobs import scoring

    options = scoring.ScoringOptions(label_first=args.trials_format == "label-first",
                                     point=scoring.OperatingPoint(args.p_target, args.c_miss, args.c_fa))
    scoring.measure_score_file(args.trials, args.scores, options, args.report)
    print(scoring.format_metrics(args.report), end="")
