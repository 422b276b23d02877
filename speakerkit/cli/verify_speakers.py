"""verify-speakers: are two recordings of the same person?"""

import argparse

from speakerkit.cli import entry
from speakerkit.errors import ConfigError

FORMATS = """\
Standard output has a name and a value a line: cosine (-1 to 1, higher is more alike), similarity (0 to 100, 0 at
the threshold and below; no probability), threshold, decision (same or different), llr (natural log-likelihood
ratio, above 0 for the same speaker; of a calibrated model), domain (the speech the model is for). A model without a
threshold gives the cosine without a decision. The exit code is 0 either way. Standard error has the answer in
words, what the model was trained on, how far its threshold can be trusted, and what ails the recordings.

With --enrol the one recording before it is compared with the mean of the enrolment's embeddings."""
TEXT_FORMATS = {"cosine": ".6f", "similarity": ".2f", "threshold": ".6f", "decision": "s", "llr": ".3f",
                "domain": "s"}


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "verify-speakers",
        summary="Say whether two recordings are of the same speaker.",
        example="verify-speakers a.wav b.wav\n  verify-speakers b.wav --enrol a1.wav a2.wav",
        formats=FORMATS,
    )
    parser.add_argument("recordings", metavar="RECORDING", nargs="+", help="two; or one, and the others after --enrol")
    parser.add_argument("--enrol", metavar="RECORDING", nargs="+", help="recordings of one speaker to compare with")
    entry.add_model_options(parser)
    entry.add_vad_option(parser)
    entry.add_audio_options(parser, max_bad=False)
    return entry.run(parser, verify_speakers, argv)


def verify_speakers(args: argparse.Namespace) -> None:
    *enrol, test = args.recordings
    if args.enrol is None and len(enrol) != 1:
        raise ConfigError(f"{len(args.recordings)} recordings; want two, or one and --enrol with those of a speaker")
    if args.enrol is not None and enrol:
        raise ConfigError(f"{len(args.recordings)} recordings before --enrol; want one")
    from speakerkit.jobs import verification

    options = verification.VerificationOptions(args.model, args.device, args.precision, args.vad,
                                               entry.audio_options(args), args.backend)
    verification.verify_speakers(test, args.enrol or enrol, options, args.report)
    print_answer(args.report)


def print_answer(report: dict) -> None:
    """A name and a value a line, of what the model could say."""
    for name, text_format in TEXT_FORMATS.items():
        value = report.get(name)
        if value is not None:
            print(name, format(" ".join(value.split()) if isinstance(value, str) else value, text_format))
