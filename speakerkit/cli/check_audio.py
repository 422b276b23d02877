"""check-audio: what recordings are worth before they become embeddings."""

import argparse
import itertools

from speakerkit.cli import entry

FORMATS = """\
RECORDING  WAV, FLAC, OGG/Opus, MP3 or .pcm; or one wav.scp ('<id> <path>' a line) whose name ends in .scp
Standard output has a header and then a line a recording, of several channels one each, with tabs between; '-' is
nothing to measure:
  id  channel  seconds  sample_rate
  speech_seconds    time in which somebody speaks, pauses under 0.5 s included (with --vad: by silero-vad)
  snr_db            power of speech in that time over the power of lasting noise
  bandwidth_hz      where speech ends: 4000 in a 16 kHz file says that it was once 8 kHz
  level_dbfs        rms of speech; peak_dbfs: the largest sample; 0 is full scale
  clipped_percent   samples at an end of the range that is held as only clipping holds it
  dc_offset         mean of the samples, full scale is 1
  silence_percent   time without any signal
  warnings          no-speech, little-speech, pauses, noisy, narrow-band, clipped, quiet, dc-offset, digital-silence,
                    equal-channels, opposite-channels: what each means is told on standard error;
                    of a recording that can't be used the reason, as in .bad.tsv
Warnings leave the exit code 0; more recordings than --max-bad that can't be used make it 1."""


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "check-audio",
        summary="Measure recordings and warn of what ruins embeddings: noise, clipping, lost bands, silence.",
        example="check-audio a.wav b.flac\n  check-audio --nj 2 --json quality.json data/test/wav.scp",
        formats=FORMATS,
    )
    parser.add_argument("recordings", metavar="RECORDING", nargs="+", help="files, or one wav.scp; - is standard input")
    parser.add_argument("--vad", action="store_true",
                        help="speech_seconds by silero-vad, no-speech if none (pip install 'speakerkit[vad]')")
    entry.add_nj_option(parser)
    entry.add_audio_options(parser)
    return entry.run(parser, check_audio, argv)


def check_audio(args: argparse.Namespace) -> None:
    from speakerkit.jobs import audio_quality

    options = audio_quality.CheckOptions(entry.audio_options(args), args.vad, args.nj, entry.max_bad(args),
                                         not args.quiet)
    rows = audio_quality.check_recordings(args.recordings, options, args.report)
    first = next(rows)  # a faulty list is told before the header
    print("\t".join(audio_quality.COLUMNS))
    for row in itertools.chain([first], rows):
        print(audio_quality.row_as_text(row))
