"""Say what a recipe is going to cost before it starts: recordings, disk space, training time."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from alimeeting_files import FIELDS, find_folder
from prepare_cnceleb import CNCELEB1, CNCELEB2, audio_files, find_tree
from speakerkit.cli import entry
from speakerkit.errors import DataError

RECORDINGS_LOOKED_AT = 200      # whose length stands for all
FRAMES_A_SECOND = 100
# Of AliMeeting, counted in the annotation of its Test set: stretches of 2 s and more in which one person speaks.
UTTERANCES_AN_HOUR, SPOKEN_ALONE = 426, 0.59
COMPRESSION = {"fly": 0.0, "compressed": 1 / 4, "stored": 1.0}  # bytes of features relative to float32

# Seconds of audio a second and processor core that training was measured to take in, in bfloat16 on cores
# with AVX512-BF16: 11 with a ResNet34 of full width (32 channels first), 69 with a quarter of it.
TRAINING_RATE, FULL_WIDTH, WIDTH_EXPONENT = 11.0, 32, 1.3


def mean_duration(paths: list[str]) -> float:
    """Mean length in seconds of some recordings spread over a list; unreadable ones are left to validation."""
    import soundfile

    seconds = []
    for path in paths[::max(1, len(paths) // RECORDINGS_LOOKED_AT)]:
        try:
            seconds.append(soundfile.info(path).duration)
        except soundfile.SoundFileError:
            continue
    return sum(seconds) / max(1, len(seconds))


def corpus_files(corpus_dir: Path, with_cnceleb2: bool) -> list[str]:
    """Paths of all recordings under the data folders of CN-Celeb 1 and 2."""
    trees = [find_tree(corpus_dir, names) for names in ((CNCELEB1, CNCELEB2) if with_cnceleb2 else (CNCELEB1,))]
    return [path for tree in trees for folder in os.scandir(tree / "data") if folder.is_dir()
            for path in audio_files(Path(folder.path)).values()]


def meeting_speech(corpus_dir: Path) -> tuple[int, float]:
    """About how many single-speaker utterances AliMeeting's Train has in all its fields, and how many seconds."""
    paths = {field: sorted(map(str, folder.glob("audio_dir/*.wav"))) for field in FIELDS
             if (folder := find_folder(corpus_dir, "Train", field))}
    paths = {field: found for field, found in paths.items() if found}
    if not paths:
        raise DataError(corpus_dir, "holds neither Train_Ali_far nor Train_Ali_near with recordings in audio_dir")
    sessions = len({Path(path).name[:11] for found in paths.values() for path in found})
    meetings_s = sessions * mean_duration(next(iter(paths.values()))) * len(paths)
    return round(meetings_s / 3600 * UTTERANCES_AN_HOUR), meetings_s * SPOKEN_ALONE


def features_bytes(audio_seconds: float, num_mel_bins: int, num_speeds: int, features: str) -> float:
    """Disk space of the features of a training set at all its speeds."""
    return audio_seconds * num_speeds * FRAMES_A_SECOND * num_mel_bins * 4 * COMPRESSION[features]


def in_words(seconds: float) -> str:
    """A duration in the unit a person would choose."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:,.0f} seconds"


def expect(args: argparse.Namespace) -> None:
    from speakerkit.config import read_system

    system = read_system(args.config)
    num_utterances, audio_s = 0, 0.0
    try:
        if args.train_sets != "none":
            files = corpus_files(Path(args.corpus_dir), args.train_sets == "both")
            num_utterances, audio_s = len(files), len(files) * mean_duration(files)
        if args.alimeeting_dir:
            found, seconds = meeting_speech(Path(args.alimeeting_dir))
            num_utterances, audio_s = num_utterances + found, audio_s + seconds
    except DataError as error:
        hint = "--corpus-dir names the folder that holds the corpora"
        if args.alimeeting_dir and args.train_sets != "none":
            hint = "--corpus-dir names AliMeeting's folder, --cnceleb-dir that of CN-Celeb"
        raise DataError(error.path, f"{error.message}; {hint}") from None
    num_speeds = len(system.augmentation.speeds)
    disk = features_bytes(audio_s, system.fbank.num_mel_bins, num_speeds, args.features)
    place = Path(args.exp_dir)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    training, chunk_s = system.training, system.training.chunk_frames / FRAMES_A_SECOND
    steps = training.num_steps or training.num_epochs * num_utterances * num_speeds / training.batch_size
    learnt_s = steps * training.batch_size * chunk_s
    cores = entry.usable_cores()
    rate = cores * TRAINING_RATE * (FULL_WIDTH / system.model.base_channels) ** WIDTH_EXPONENT
    log = entry.log
    what = "utterances" if args.alimeeting_dir else "recordings"
    log.info("%s %s, about %s hours", f"{num_utterances:,}", what, f"{audio_s / 3600:,.1f}")
    log.info("disk: about %.1f GB of features (%s) and 0.5 GB of models; %.1f GB are free", disk / 1e9, args.features,
             free / 1e9)
    log.info("training: %s steps, %.1f hours of audio; about %s on %d processor cores, far less on a GPU",
             f"{steps:,.0f}", learnt_s / 3600, in_words(learnt_s / rate), cores)
    if disk > free:
        log.warning("the features don't fit: choose --features fly, or another --data-dir")
    args.report |= {"num_recordings": num_utterances, "audio_seconds": round(audio_s), "features_bytes": round(disk),
                    "free_bytes": free, "num_steps": round(steps)}


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "expect_cost.py", summary="Say how much disk space and time a training takes.",
        example="local/expect_cost.py --config conf/resnet34.toml corpora/cnceleb exp/resnet34")
    parser.add_argument("corpus_dir", metavar="CORPUS_DIR", help="holds CN-Celeb_flac and CN-Celeb2_flac")
    parser.add_argument("exp_dir", metavar="EXP_DIR", help="where the run will live")
    parser.add_argument("--features", choices=tuple(COMPRESSION), default="fly", help="default: fly, none are kept")
    parser.add_argument("--train-sets", choices=("both", "cnceleb1", "none"), default="both",
                        help="of CN-Celeb (default: both)")
    parser.add_argument("--alimeeting-dir", metavar="DIR", help="holds Train_Ali_far, Train_Ali_near or both")
    entry.add_config_option(parser, required=True)
    return entry.run(parser, expect, argv)


if __name__ == "__main__":
    sys.exit(main())
