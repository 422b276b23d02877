"""compare-results: two systems on the same trials."""

import argparse

from speakerkit.cli import card_options, entry, score_files

FORMATS = """
A and B are score files (their lines as compute-metrics takes them), or cards that --card wrote, PREFIX.json:
the score files and trials that these name are read again and must not have changed.

Both systems are computed on the same draws of speakers, on both sides of a trial; the standard error of the
difference comes from these, the test is Student's t with a degree of freedom less than speakers have targets.
"""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "compare-results",
        summary="Compare two systems on the same trials: EER and minDCF side by side, and a paired bootstrap test.",
        example="compare-results exp/small/scores exp/large/scores --trials data/eval/trials",
        formats=FORMATS)
    parser.add_argument("a", metavar="A", help="scores or card of the one system")
    parser.add_argument("b", metavar="B", help="scores or card of the other")
    parser.add_argument("--trials", metavar="FILE",
                        help="the labelled list (default: the cards', or the labels in A)")
    parser.add_argument("--markdown", metavar="FILE", help="also write the table as a page")
    score_files.add_format_options(parser)
    card_options.add_bootstrap_options(parser)
    entry.add_operating_point_options(parser)
    return entry.run(parser, compare_results, argv)


def compare_results(args: argparse.Namespace) -> None:
    from speakerkit.io import files
    from speakerkit.jobs import comparison

    card_options.refuse_few_replicates(args.replicates, least=20)
    if args.markdown:
        files.refuse_input_as_output("--markdown", args.markdown, (args.a, args.b, args.trials, args.utt2spk))
    options = comparison.ComparisonOptions(args.trials, args.utt2spk, args.replicates, args.seed,
                                           score_files.scoring_options(args))
    comparison.compare_results(args.a, args.b, options, args.report)
    table = comparison.comparison_in_markdown(args.report)
    print(table, end="")
    if args.markdown:
        files.write_text(args.markdown, table)
