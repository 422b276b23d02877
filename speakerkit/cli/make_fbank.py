"""make-fbank: log-mel filterbank features of a data directory."""

import argparse

from speakerkit.cli import entry

FORMATS = """\
DATA_DIR   wav.scp ('<id> <path>' a line) and, where utterances are stretches of recordings,
           segments ('<utt-id> <rec-id> <start> <end>'); for --output-dir utt2spk too
feats.scp  '<utt-id> <archive>:<offset>' a line; the archives lie in feats/ beside it
utt2num_frames  '<utt-id> <frames>' a line
With --output-dir DIR that folder becomes a data directory of its own: utt2spk and spk2utt too.
Means are not removed: that is the model's. A stopped run goes on from its finished archives."""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "make-fbank",
        summary="Write log-mel filterbank features of every utterance of a data directory, as Kaldi ark and scp.",
        example="make-fbank --config conf/resnet34.toml --speeds 0.9,1.0,1.1 --output-dir data/train_sp data/train",
        formats=FORMATS,
    )
    parser.add_argument("data_dir", metavar="DATA_DIR", help="the data directory")
    entry.add_config_option(parser)
    parser.add_argument("--compress", action="store_true", help="Kaldi's compression (method 2), a quarter of the size")
    parser.add_argument(
        "--speeds",
        type=_speeds,
        default=(1.0,),
        metavar="S,S,...",
        help="also play each utterance at other speeds, e.g. 0.9,1.0,1.1; needs --output-dir",
    )
    parser.add_argument(
        "--speed-speakers",
        choices=("new", "keep"),
        default="new",
        help="new: a speed makes a new speaker, ids sp0.9-<utt>; keep: the same one, ids <utt>-sp0.9 (default: new)",
    )
    parser.add_argument("--output-dir", metavar="DIR", help="where the features go (default: DATA_DIR)")
    entry.add_nj_option(parser)
    entry.add_seed_option(parser)
    entry.add_output_options(parser)
    entry.add_audio_options(parser)
    return entry.run(parser, make_fbank, argv)


def _speeds(text: str) -> tuple[float, ...]:
    speeds = tuple(entry.number(float, 0.5, 2.0)(word) for word in text.split(","))
    if len({f"{speed:g}" for speed in speeds}) < len(speeds):
        raise argparse.ArgumentTypeError(f"{text!r} names one speed twice")
    return speeds


def make_fbank(args: argparse.Namespace) -> None:
    from speakerkit.config import FbankConfig, read_system

    fbank = read_system(args.config).fbank if args.config else FbankConfig()
    from speakerkit.jobs import feature_parts, make_fbank

    features = feature_parts.FeatureOptions(
        fbank=fbank,
        speeds=args.speeds,
        new_speakers=args.speed_speakers == "new",
        compress=args.compress,
        seed=args.seed,
        audio_options=entry.audio_options(args),
    )
    job = make_fbank.FbankJob(
        features=features,
        output_dir=args.output_dir,
        nj=args.nj,
        allowed_bad=entry.max_bad(args),
        overwrite=args.overwrite,
        show=not args.quiet,
        rerun=entry.command_line(args),
    )
    make_fbank.make_fbank(args.data_dir, job, args.report)
