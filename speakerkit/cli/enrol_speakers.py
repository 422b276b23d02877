"""enrol-speakers: keep people's voices in a file, to find them again."""

import argparse

from speakerkit.cli import entry
from speakerkit.errors import ConfigError, DataError

FORMATS = """\
people.voices   a voiceprint file: embeddings of every recording, and where each lies, so that another model can make
                them again. It is made where there is none; known speakers get further recordings. Voices are
                personal: keep the file as you would keep the recordings.
DATA_DIR        its wav.scp '<utt-id> <path>' and utt2spk '<utt-id> <spk-id>'

With a recording that can't be used nobody is enrolled. What looks like a mistake is a warning: a recording unlike its
speaker's others, a speaker like another one, the same samples twice. --vad is kept beside each recording and used
again when another model makes the embeddings again; give it to identify-speaker too."""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "enrol-speakers",
        summary="Add people's recordings to a voiceprint file, take people out, or list them.",
        example="enrol-speakers --speaker anna a1.wav a2.wav people.voices\n  enrol-speakers data/enrol people.voices\n"
                "  identify-speaker x.wav people.voices",
        formats=FORMATS,
    )
    parser.add_argument("inputs", metavar="RECORDING|DATA_DIR", nargs="*",
                        help="recordings of --speaker, or a data directory of many speakers")
    parser.add_argument("voices", metavar="people.voices", help="the voiceprint file")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--speaker", metavar="ID", help="whose recordings they are, one word")
    what.add_argument("--remove", metavar="ID", action="append", help="take a speaker out; may be repeated")
    what.add_argument("--list", action="store_true", help="print '<spk-id> <recordings> <seconds>' lines")
    entry.add_model_options(parser)
    entry.add_vad_option(parser)
    entry.add_nj_option(parser)
    entry.add_audio_options(parser, max_bad=False)
    return entry.run(parser, enrol_speakers, argv)


def enrol_speakers(args: argparse.Namespace) -> None:
    if (args.list or args.remove) and args.inputs:
        raise ConfigError(f"--{'list' if args.list else 'remove'} takes the voiceprint file alone")
    if args.speaker is not None and not args.inputs:
        raise ConfigError(f"no recording of '{args.speaker}'")
    if args.speaker is None and not args.list and not args.remove and len(args.inputs) != 1:
        raise ConfigError(f"{len(args.inputs)} inputs; want one data directory, or --speaker and recordings")
    if args.allow_pipes:
        raise ConfigError("--allow-pipes: what a shell pipe gives can't be enrolled: next time it may be another thing")
    from speakerkit.io.voiceprints import read_voiceprints, speaker_fault
    from speakerkit.jobs import enrolment

    if args.list:
        for name, count, seconds in enrolment.count_recordings(read_voiceprints(args.voices)):
            print(name, count, f"{seconds:.2f}")
    elif args.remove:
        args.report.update(num_speakers=len(enrolment.remove_speakers(args.voices, args.remove)))
    else:
        if args.speaker is not None and (fault := speaker_fault(args.speaker)) is not None:
            raise DataError("--speaker", fault)
        pairs = [(args.speaker, path) for path in args.inputs] if args.speaker else enrolment.read_pairs(args.inputs[0])
        options = enrolment.EnrolmentOptions(args.model, args.device, args.precision, args.nj,
                                             entry.audio_options(args), args.backend, args.vad)
        enrolment.enrol_speakers(pairs, args.voices, options, args.report)
