"""extract-embeddings: one embedding a recording."""

import argparse
import contextlib

from speakerkit.cli import entry
from speakerkit.errors import ConfigError

FORMATS = """\
wav.scp    '<utt-id> <path>' a line: WAV, FLAC, OGG/Opus, MP3 or .pcm, 4 to 192 kHz
segments   '<utt-id> <rec-id> <start> <end>' a line, seconds
utt2utts   '<utt-id> <part-id>...' a line: segments, else recordings, that are joined to one utterance
emb.ark    Kaldi float vectors, not length-normalised; emb.scp beside it"""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "extract-embeddings",
        summary="Write one embedding for each recording of wav.scp, in its order, as Kaldi ark and scp.",
        example="extract-embeddings --nj 2 data/test/wav.scp exp/resnet34/emb_test.ark",
        formats=FORMATS,
    )
    parser.add_argument("wav_scp", metavar="wav.scp", help="the recordings; - for standard input")
    parser.add_argument("emb_ark", metavar="emb.ark", help="the archive to write")
    parser.add_argument("--segments", metavar="FILE", help="utterances as stretches of the recordings")
    parser.add_argument("--utt2utts", metavar="FILE", help="utterances that are several of these joined")
    parser.add_argument("--spk2utt", metavar="FILE", help="'<spk-id> <utt-id>...' lines, for --average")
    parser.add_argument("--average", action="store_true", help="also write each speaker's mean embedding, spk_emb.ark")
    entry.add_model_options(parser)
    entry.add_vad_option(parser)
    entry.add_nj_option(parser)
    entry.add_output_options(parser)
    entry.add_audio_options(parser)
    return entry.run(parser, extract_embeddings, argv)


def extract_embeddings(args: argparse.Namespace) -> None:
    if args.average != bool(args.spk2utt):
        raise ConfigError("--average and --spk2utt go together")
    from speakerkit.io.spooled import readable_twice
    from speakerkit.jobs import extraction

    options = extraction.ExtractionOptions(
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
    lists = [args.wav_scp, args.segments, args.spk2utt, args.utt2utts]
    if lists.count("-") > 1:
        raise ConfigError("standard input can be one list; '-' stands for several")
    with contextlib.ExitStack() as stack:
        wav_scp, *others = (path and stack.enter_context(readable_twice(path))[0] for path in lists)
        extraction.extract_embeddings(wav_scp, args.emb_ark, options, args.report, *others)
