"""compute-metrics: EER and minDCF of scored trials."""

import argparse

from speakerkit.cli import card_options, entry, score_files
from speakerkit.errors import ConfigError

CONVENTIONS = ("reference", "wespeaker", "3dspeaker", "espnet", "speechbrain", "kaldi")
QUIRKS = """
conventions: the lines that another toolkit's own script prints for these scores, quirks included
  reference    FunASR compute_eer.py and compute_min_dcf.py: EER without interpolation, the mean of the two rates at
               the nearest corner of the ROC; minDCF at 0.01, 10, 1; tied trials are rejected one by one in the score
               file's order. (Its EER script pairs scores and trials by line; here they are matched by id.)
  wespeaker    compute_metrics.py: EER interpolated between trials; minDCF at 0.01, 1, 1; tied trials one by one in
               the order in which numpy's default sort leaves them, which file order and processor change; fails on
               some small lists
  3dspeaker    compute_score_metrics.py: the same, more digits. (The toolkit measures scores before it rounds them
               to the 5 decimals of its score files.)
  espnet       calculate_eer_mindcf.py: EER is the larger of the two rates at the nearest ROC corner; minDCF at 0.05,
               1, 1, ties in file order; the mean of nontarget scores is their standard deviation
  speechbrain  metric_stats.py as the VoxCeleb recipe prints it: EER is the mean of the two rates at the nearest
               threshold, in single precision; minDCF at 0.01, 1, 1 not normalised, times 100; a score equal to the
               threshold is rejected
  kaldi        compute-eer: the share of targets below the crossing, in steps of one target; compute_min_dcf.py
               at p-target 0.01 and 0.001, costs 1, 1, ties in the score file's order
Scores are taken in the score file's order. --json holds the same numbers with all digits. --p-target, --c-miss and
--c-fa change the point of those whose scripts have such options: not espnet's and speechbrain's.
"""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "compute-metrics",
        summary="Print equal error rate and minimum detection cost, a name and a value a line.",
        example="compute-metrics data/eval/trials exp/resnet34/scores --p-target 0.01 --c-miss 10",
        formats=score_files.FORMATS + QUIRKS + "\n" + card_options.CARD_HELP)
    score_files.add_arguments(parser)
    parser.add_argument("--convention", choices=CONVENTIONS,
                        help="print what this toolkit's own script prints for the scores instead")
    score_files.add_memory_option(parser, "files that would take more are measured as they are read")
    entry.add_operating_point_options(parser, fill_in=False)
    card_options.add_card_options(parser)
    entry.add_output_options(parser)
    return entry.run(parser, compute_metrics, argv)


def compute_metrics(args: argparse.Namespace) -> None:
    from speakerkit.jobs import measuring, scoring

    options = score_files.scoring_options(args)
    card = card_options.card_options(args, args.model)
    given = (args.p_target, args.c_miss, args.c_fa)
    if args.max_memory is not None and args.convention:
        raise ConfigError("--convention needs all trials in memory; leave --max-memory out")
    if args.convention:
        from speakerkit.jobs import conventions

        if card:
            raise ConfigError("--convention prints what another toolkit would; a card is of our own metrics")
        if any(value is not None for value in given) and not conventions.takes_point(args.convention):
            raise ConfigError(f"--convention {args.convention}: its script has its operating point built in; "
                              "leave --p-target, --c-miss and --c-fa out")
        conventions.print_score_file_as(args.convention, args.trials, args.scores, given, options, args.report)
        print(args.report["printed"], end="")
        return
    if card:
        from speakerkit.jobs import cards

        if args.max_memory is not None:
            measuring.check_card_fits(args.trials, args.scores, args.max_memory)
        cards.check_options(card, (args.trials, args.scores))
        scored = scoring.measure_score_file(args.trials, args.scores, options, args.report)
    else:
        measuring.measure_score_file(args.trials, args.scores, options, args.report,
                                     args.max_memory or score_files.DEFAULT_MEMORY_MB)
    print(scoring.format_metrics(args.report), end="")
    if card:
        cards.write_card(scored, args.report["protocol"], card)
