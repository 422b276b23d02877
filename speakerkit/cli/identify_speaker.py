"""identify-speaker: whose voice is this?"""

import argparse

from speakerkit.cli import entry
from speakerkit.cli.verify_speakers import print_answer

FORMATS = """\
people.voices   what enrol-speakers makes; embeddings of another model are made again from the recordings

Standard output has a name and a value a line: nearest (the speaker whose voice is nearest), cosine, similarity,
threshold, decision (same: it is that speaker's voice; different: it is nobody's), llr and domain as verify-speakers
has them, then '<speaker> <cosine>' of the next ones as match_2, match_3, ... The exit code is 0 either way."""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "identify-speaker",
        summary="Find whose voice a recording is among the enrolled ones.",
        example="identify-speaker x.wav people.voices",
        formats=FORMATS,
    )
    parser.add_argument("recording", metavar="RECORDING", help="the recording; - is standard input")
    parser.add_argument("voices", metavar="people.voices", help="the voiceprint file")
    parser.add_argument("--top", type=entry.number(int, 1, 10**6), default=5, metavar="N",
                        help="how many of the nearest speakers to print (default: %(default)s)")
    entry.add_model_options(parser)
    entry.add_vad_option(parser)
    entry.add_audio_options(parser, max_bad=False)
    return entry.run(parser, identify_speaker, argv)


def identify_speaker(args: argparse.Namespace) -> None:
    from speakerkit.jobs import verification, voiceprints

    options = verification.VerificationOptions(args.model, args.device, args.precision, args.vad,
                                               entry.audio_options(args), args.backend)
    voiceprints.identify_speaker(args.voices, args.recording, options, args.top, args.report)
    print("nearest", args.report["nearest"])
    print_answer(args.report)
    for place, (speaker, cosine) in enumerate(args.report["matches"][1:], 2):
        print(f"match_{place} {speaker} {cosine:.6f}")
