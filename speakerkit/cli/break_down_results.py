"""break-down-results: EER and minDCF of the parts of a trial list."""

import argparse
import itertools
import re

from speakerkit.cli import entry, score_files
from speakerkit.errors import ConfigError

FORMATS = score_files.FORMATS + """
  TABLE       <id> <value>                                     utt2genre, utt2dur, utt2gender, utt2session, ...
  enrol map   <enrol-id> <utt-id> [<utt-id> ...]

SIDE=TABLE is enrol=TABLE or test=TABLE, the value of that side's id, or pair=TABLE, whether both sides have
the same value. SIDE=TABLE:2,5,10 sorts numbers into bins <2, 2..5, 5..10 and >=10 (5 lies in 5..10). Several
after one --by are crossed. Trials of ids without a value stand under (unknown), so that the rows of --by sum
to the whole list. Each cell has a threshold of its own; one without targets or without nontargets has no
error rates and says so.

An enrolment that a table doesn't hold has, by --enrol-map, the values of its utterances: numbers are summed
(seconds, counts), words stay if all agree and are joined by + if they don't.
"""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "break-down-results",
        summary="Print EER and minDCF by condition: genre, duration, gender, near or far, session, room.",
        example="break-down-results data/eval/trials exp/scores --by enrol=utt2genre test=utt2genre "
                "--by test=utt2dur:2,5,10",
        formats=FORMATS)
    score_files.add_arguments(parser)
    parser.add_argument("--by", nargs="+", action="append", type=_factor, default=[], metavar="SIDE=TABLE[:EDGES]",
                        help="a row for each combination of these values; may be repeated")
    parser.add_argument("--nontargets-by", nargs="+", action="append", type=_factor, default=[],
                        metavar="SIDE=TABLE[:EDGES]",
                        help="the same for nontargets only: each row has all targets, as where impostors of the same "
                             "session are told from others (pair=utt2session)")
    parser.add_argument("--enrol-map", metavar="FILE", help="what enrolments are made of")
    parser.add_argument("--markdown", metavar="FILE", help="also write all as a page; of two factors also a matrix")
    entry.add_operating_point_options(parser)
    return entry.run(parser, break_down_results, argv)


def _factor(text: str) -> tuple[str, str, tuple[float, ...] | None]:
    """SIDE=TABLE[:EDGES] as what `jobs.conditions.Factor` is made of."""
    found = re.fullmatch(r"(enrol|test|pair)=(.+?)(?::([-+.,\deE]+))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not enrol=TABLE, test=TABLE or pair=TABLE")
    side, table, edges = found.groups()
    if edges is None:
        return side, table, None
    numbers = tuple(map(entry.number(float, -1e12, 1e12), edges.split(",")))
    if any(low >= high for low, high in itertools.pairwise(numbers)):
        raise argparse.ArgumentTypeError(f"{text!r} has edges that don't ascend")
    return side, table, numbers


def break_down_results(args: argparse.Namespace) -> None:
    from speakerkit.io import files
    from speakerkit.jobs import breakdown
    from speakerkit.jobs.conditions import Factor

    if not (args.by or args.nontargets_by):
        raise ConfigError("by what? give --by or --nontargets-by; break-down-results --help shows how")
    inputs = {args.trials, args.scores, args.enrol_map, *[table for one in args.by + args.nontargets_by
                                                          for _, table, _ in one]}
    if args.markdown:
        files.refuse_input_as_output("--markdown", args.markdown, inputs)
    splits = [breakdown.Split(tuple(Factor(*factor) for factor in factors), share_targets)
              for given, share_targets in ((args.by, False), (args.nontargets_by, True)) for factors in given]
    breakdown.break_down(args.trials, args.scores, splits, args.enrol_map, score_files.scoring_options(args),
                         args.report)
    print("\n".join(breakdown.format_breakdown(one, args.report) for one in args.report["breakdowns"]), end="")
    if args.markdown:
        files.write_text(args.markdown, breakdown.breakdowns_in_markdown(args.report))
