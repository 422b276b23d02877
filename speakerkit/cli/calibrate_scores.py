"""calibrate-scores: scores to log-likelihood ratios."""

import argparse

from speakerkit.cli import entry, score_files

FORMATS = score_files.FORMATS + """
output      JSON with scale, offset, counts, cllr and min_cllr on these same trials; with --model a copy of that
            model file that holds it, so that verify-speakers gives a log-likelihood ratio

A log-likelihood ratio is llr = scale * score + offset (natural logarithm). Scale and offset come from a logistic
regression that weighs targets and nontargets by --p-target. Fit on other speakers than those you judge:
Cllr and minCllr on the trials of the fit itself are a little too good.
"""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "calibrate-scores",
        summary="Fit the map from scores to log-likelihood ratios on labelled trials.",
        example="calibrate-scores data/dev/trials exp/scores_dev --output exp/calibration.json",
        formats=FORMATS)
    score_files.add_arguments(parser)
    parser.add_argument("--output", metavar="FILE", required=True, help="where the calibration, or the model, goes")
    parser.add_argument("--model", metavar="MODEL", help="write a copy of this model, which the scores are of")
    parser.add_argument("--p-target", type=entry.number(float, 1e-9, 1 - 1e-9), default=0.5, metavar="P",
                        help="prior at which the fit weighs errors (default: %(default)s)")
    entry.add_output_options(parser)
    return entry.run(parser, calibrate_scores, argv)


def calibrate_scores(args: argparse.Namespace) -> None:
    from speakerkit.jobs import calibrating, scoring

    options = scoring.ScoringOptions(label_first=args.trials_format == "label-first", score_format=args.scores_format)
    calibrating.calibrate_scores(args.trials, args.scores, args.output, args.p_target, args.model, options,
                                 args.overwrite, args.report)
    for name, text_format in calibrating.TEXT_FORMATS.items():
        print(name, format(args.report[name], text_format))
