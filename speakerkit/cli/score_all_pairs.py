"""score-all-pairs: all pairs of embeddings, without a list of trials."""

import argparse
import sys

from speakerkit.cli import entry, score_files

FORMATS = """
formats:
  emb.ark     Kaldi archive of vectors, or its scp
  utt2spk     <id> <spk-id>, every id of both sides
  enrol map   <enrol-id> <utt-id> [<utt-id> ...]
  output      <enrol-id> <test-id> <score>                by enrolment; with --top its highest score first
Within one archive each pair counts once; --top then gives the nearest others of each id. With --enrol-embeddings
or --enrol-map all enrolments meet all tests, save a recording itself. Nothing is as long as the pairs are many.
"""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "score-all-pairs",
        summary="Cosines of all pairs of embeddings: the closest pairs, and with utt2spk exact EER and minDCF.",
        example="score-all-pairs exp/resnet34/emb.ark --utt2spk data/eval/utt2spk --top 10 --output exp/nearest",
        formats=FORMATS)
    parser.add_argument("embeddings", metavar="emb.ark", help="embeddings, of the tests where enrolments lie elsewhere")
    score_files.add_embedding_options(parser)
    parser.add_argument("--utt2spk", metavar="FILE", help="speakers: pairs of one are targets; all are measured")
    parser.add_argument("--top", metavar="N", type=entry.number(int, 1, 100_000),
                        help="write each enrolment's N pairs of highest score")
    parser.add_argument("--min-score", metavar="SCORE", type=entry.number(float, -1, 1),
                        help="write pairs of this score or more only")
    parser.add_argument("--output", metavar="FILE", default="-", help="where the pairs go (default: standard output)")
    parser.add_argument("--max-memory", metavar="MB", type=entry.number(int, 400, 10**8), default=2000,
                        help="about what the process may hold; embeddings have to fit (default: %(default)s)")
    entry.add_nj_option(parser)
    entry.add_output_options(parser)
    entry.add_operating_point_options(parser)
    return entry.run(parser, score_all_pairs, argv)


def score_all_pairs(args: argparse.Namespace) -> None:
    from speakerkit.jobs import all_pairs, scoring

    how = scoring.ScoringOptions(args.enrol_embeddings, args.enrol_map, mean_of=args.subtract_mean,
                                 point=scoring.OperatingPoint(args.p_target, args.c_miss, args.c_fa))
    options = all_pairs.AllPairsOptions(args.utt2spk, args.top, args.min_score, how, args.nj, args.max_memory)
    output = sys.stdout.buffer if args.output == "-" else args.output
    all_pairs.score_all_pairs(args.embeddings, options, args.report, output, args.overwrite)
    sys.stdout.flush()
    print(scoring.format_metrics(args.report), end="", file=sys.stderr)
