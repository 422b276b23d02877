"""normalize-scores: adaptive score normalisation by a cohort."""

import argparse
import dataclasses

from speakerkit.cli import card_options, entry, score_files

FORMATS = """
formats:
  trials      <enrol-id> <test-id> [target|nontarget]     or 1|0; labels on all lines or none
              <enrol-id>*<test-id> target|nontarget     ESPnet's trial_label, or 1|0
  scores      <enrol-id> <test-id> <score>                cosines of the same pairs, in any order
  emb.ark     Kaldi archive of vectors, or its scp
  cohort.ark  the same, of speakers who are in no trial; extract-embeddings --spk2utt --average makes one a speaker
  cohort map  <spk-id> <utt-id> [<utt-id> ...]
A score becomes its distance from the mean of what its sides score on the cohort, in deviations
(adaptive s-norm 1: each side's own --top highest cosines; both sides' distances are averaged).
"""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "normalize-scores",
        summary="Normalise scores by a cohort (AS-norm); with labels, also EER and minDCF to standard error.",
        example="normalize-scores data/eval/trials exp/scores exp/emb.ark exp/spk_emb.ark --output exp/scores.asnorm",
        formats=FORMATS + "\n" + card_options.CARD_HELP)
    parser.add_argument("trials", help="the list")
    parser.add_argument("scores", help="what score-trials wrote for it")
    parser.add_argument("embeddings", metavar="emb.ark", help="embeddings of every id in the trials")
    parser.add_argument("cohort", metavar="cohort.ark", help="embeddings of the cohort")
    parser.add_argument("--output", metavar="FILE", required=True, help="where the normalised scores go")
    parser.add_argument("--top", metavar="N", type=int, default=300,
                        help="highest cosines on the cohort that count (default: 300; 0: all, which is s-norm)")
    parser.add_argument("--sides", choices=("both", "enrol", "test"), default="both",
                        help="whose statistics: both (symmetric), the enrolment's or the test's (default: both)")
    parser.add_argument("--cohort-map", metavar="FILE", help="the cohort is the mean embedding of each of its speakers")
    score_files.add_embedding_options(parser)
    entry.add_nj_option(parser)
    entry.add_output_options(parser)
    score_files.add_format_options(parser)
    entry.add_operating_point_options(parser)
    card_options.add_card_options(parser)
    return entry.run(parser, normalize_scores, argv)


def normalize_scores(args: argparse.Namespace) -> None:
    import sys

    entry.blas_in_one_thread()
    from speakerkit.errors import ConfigError
    from speakerkit.jobs import normalisation, scoring

    if args.top < 0 or args.top == 1:
        raise ConfigError(f"--top {args.top}: want 2 or more, or 0 for all")
    how = dataclasses.replace(score_files.embedding_options(args), score_format=args.scores_format)
    options = normalisation.NormalisationOptions(args.top, args.sides, args.cohort_map, how, args.nj)
    card = card_options.card_options(args, args.model)
    if card:
        from speakerkit.jobs import cards

        cards.check_options(card, (args.trials, args.scores, args.embeddings, args.cohort, args.cohort_map, args.output,
                                   args.enrol_embeddings, args.enrol_map, args.subtract_mean))
    normalisation.normalise_scores(args.trials, args.scores, args.embeddings, args.cohort, options, args.report,
                                   args.output, args.overwrite)
    print(scoring.format_metrics(args.report), end="", file=sys.stderr)
    if card:
        scored = scoring.read_scored_trials(args.trials, args.output, dataclasses.replace(how, score_format="score"))
        cards.write_card(scored, args.report["protocol"], card)
