"""score-trials: cosine scores for a list of trials."""

import argparse
import sys

from speakerkit.cli import card_options, entry, score_files
from speakerkit.errors import ConfigError

FORMATS = """
formats:
  trials      <enrol-id> <test-id> [target|nontarget]     or 1|0; labels on all lines or none
              <enrol-id>*<test-id> target|nontarget     ESPnet's trial_label, or 1|0; known by its first line
  emb.ark     Kaldi archive of vectors, or its scp
  enrol map   <enrol-id> <utt-id> [<utt-id> ...]
  scores      <enrol-id> <test-id> <score>                in the trials' order; higher is more alike
"""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "score-trials",
        summary="Write the cosine of each trial's two embeddings; with labels, also EER and minDCF to standard error.",
        example="score-trials data/eval/trials exp/resnet34/emb.ark --output exp/resnet34/scores",
        formats=FORMATS + "\n" + card_options.CARD_HELP)
    parser.add_argument("trials", help="the list, or - for standard input")
    parser.add_argument("embeddings", metavar="emb.ark", help="embeddings of every id in the trials")
    score_files.add_embedding_options(parser)
    parser.add_argument("--output", metavar="FILE", default="-", help="where the scores go (default: standard output)")
    score_files.add_memory_option(parser, "a list that would take more is scored as it is read")
    entry.add_output_options(parser)
    score_files.add_trials_format_option(parser)
    entry.add_operating_point_options(parser)
    card_options.add_card_options(parser)
    return entry.run(parser, score_trials, argv)


def score_trials(args: argparse.Namespace) -> None:
    from speakerkit.jobs import scoring, streaming

    options = score_files.embedding_options(args)
    card = card_options.card_options(args, args.model)
    if card:
        from speakerkit.jobs import cards

        if args.output == "-":
            raise ConfigError("--card names the file of the scores; give --output FILE")
        if args.trials == "-":
            raise ConfigError("--card names the file of the trials; it can't be standard input")
        if args.max_memory is not None:
            streaming.check_card_fits(args.trials, args.embeddings, options, args.max_memory)
        cards.check_options(card, (args.trials, args.embeddings, args.enrol_embeddings, args.enrol_map, args.output))
    max_memory = args.max_memory or (sys.maxsize >> 20 if card else score_files.DEFAULT_MEMORY_MB)
    if args.output == "-":
        streaming.score_trials(args.trials, args.embeddings, options, args.report, sys.stdout.buffer, max_memory)
    else:
        streaming.score_trials_to_file(args.trials, args.embeddings, options, args.report, args.output, args.overwrite,
                                       max_memory)
    sys.stdout.flush()
    print(scoring.format_metrics(args.report), end="", file=sys.stderr)
    if card:
        scored = scoring.read_scored_trials(args.trials, args.output, options)
        cards.write_card(scored, args.report["protocol"], card)
