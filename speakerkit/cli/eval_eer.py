"""eval-eer: the error rates of a model on an evaluation set."""

import argparse

from speakerkit.cli import card_options, entry

FORMATS = """\
corpus       an archive (.tar.gz, .tar) or a folder that holds, at its top or in eval/:
               enroll/ENROL.wav       one file a speaker (.flac too; ENROL with or without '-enroll')
               test/TEST.wav
               lists/trials.lst.speech
trials       '<enrol> <test> target|nontarget' (or 1|0) a line; names with or without folder and extension
output       emb.ark, emb.scp, scores, result.json and result.md in the output folder; an archive is unpacked
             once, into eval/ there; metrics to standard output, a name and a value a line
""" + "\n" + card_options.CARD_HELP


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "eval-eer",
        summary="Evaluate a model: embed the recordings of an evaluation set, score its trials, print EER and minDCF.",
        example="eval-eer cnceleb-eval.tar.gz --model exp/resnet34",
        formats=FORMATS,
    )
    parser.add_argument("corpus", help="archive or folder")
    parser.add_argument("--trials", metavar="FILE", default="lists/trials.lst.speech",
                        help="the list, inside the corpus or from the working folder (default: %(default)s)")
    parser.add_argument("--output-dir", metavar="DIR",
                        help="where results go (default: exp/eval-eer/<model>-<first 8 digits of its SHA-256>)")
    entry.add_model_options(parser)
    entry.add_vad_option(parser)
    entry.add_nj_option(parser)
    entry.add_output_options(parser)
    entry.add_operating_point_options(parser, c_miss=10.0)
    entry.add_audio_options(parser)
    card_options.add_card_options(parser, model=False)
    return entry.run(parser, eval_eer, argv)


def eval_eer(args: argparse.Namespace) -> None:
    from speakerkit.jobs import eval_eer as job
    from speakerkit.jobs import extraction, scoring

    card = card_options.card_options(args)
    extract = extraction.ExtractionOptions(
        model=args.model,
        device=args.device,
        precision=args.precision,
        backend=args.backend,
        nj=args.nj,
        vad=args.vad,
        audio_options=entry.audio_options(args),
        allowed_bad=entry.max_bad(args),
        overwrite=args.overwrite,
        show=not args.quiet,
        rerun=entry.command_line(args),
    )
    point = scoring.OperatingPoint(args.p_target, args.c_miss, args.c_fa)
    options = job.EvaluationOptions(args.output_dir, args.trials, point, extract, card)
    job.eval_eer(args.corpus, options, args.report)
    print(scoring.format_metrics(args.report), end="")
