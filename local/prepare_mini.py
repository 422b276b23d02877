"""A small corpus -> data directories: artificial talkers laid out as CN-Celeb is, or a folder of real recordings."""

import argparse
import hashlib
import os
import sys
from pathlib import Path

import prepare_cnceleb
import synthesise_talkers
from prepare_cnceleb import Evaluation, Recording
from speakerkit.cli import entry
from speakerkit.errors import DataError, raise_all

log = entry.log

GENRES = ("interview", "speech", "vlog")     # of CN-Celeb's; one a session, in turn
ENROLMENT_RECORDINGS = 3                     # of each evaluation speaker; the others are tests
AUDIO_ENDINGS = (".flac", ".wav", ".ogg", ".opus", ".mp3")

FORMATS = """\
--speech-dir DIR  DIR/SPEAKER/RECORDING.flac (or .wav .ogg .opus .mp3), one folder a speaker; the speakers
                  that DIR/evaluation_speakers names, one a line, are held out of training; without
                  that file a third of them is, always the same
EVAL_DIR          also gets pair: the paths of two recordings of one speaker"""


def cnceleb_name(number: int) -> str:
    """GENRE-NN-NNN of a speaker's recording, counted from 0: two a session, a genre a session."""
    session, segment = divmod(number, synthesise_talkers.RECORDINGS_A_SESSION)
    return f"{GENRES[session % len(GENRES)]}-{session // len(GENRES) + 1:02d}-{segment + 1:03d}"


def link(source: Path, target: Path) -> None:
    """Give a file a second name: a hard link where the file system allows it, else a symbolic one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        target.symlink_to(source.resolve())


def concatenate(sources: list[Path], target: Path) -> None:
    """Write recordings of one sample rate one after the other, as CN-Celeb's enrolment files are."""
    import numpy as np
    import soundfile

    target.parent.mkdir(parents=True, exist_ok=True)
    parts, rates = zip(*(soundfile.read(source, dtype="int16") for source in sources), strict=True)
    if len(set(rates)) > 1:
        raise ValueError(f"sample rates {sorted(set(rates))} in one enrolment")
    soundfile.write(target, np.concatenate(parts), rates[0], subtype="PCM_16")


def lay_out_cnceleb(corpus_dir: Path, dev: list[list[Path]], more: list[list[Path]],
                    evaluation: list[list[Path]]) -> None:
    """Lay recordings out as CN-Celeb 1 and 2 lie on disk: trees, names, lists and their quirks.

    Args:
        corpus_dir: gets CN-Celeb_flac and CN-Celeb2_flac.
        dev, more, evaluation: FLAC files of each speaker of CN-Celeb1 dev, CN-Celeb2, CN-Celeb1 eval.

    The last evaluation speaker is tested but not enrolled, as four of CN-Celeb's are.
    """
    first, second = corpus_dir / "CN-Celeb_flac", corpus_dir / "CN-Celeb2_flac"
    dev_ids = [f"id{number:05d}" for number in range(len(dev))]
    eval_ids = [f"id{number:05d}" for number in range(800, 800 + len(evaluation))]
    more_ids = [f"id{number:05d}" for number in range(10000, 10000 + len(more))]
    for tree, ids, speakers in ((first, dev_ids, dev), (first, eval_ids, evaluation), (second, more_ids, more)):
        for spk_id, paths in zip(ids, speakers, strict=True):
            for number, path in enumerate(paths):
                link(path, tree / "data" / spk_id / f"{cnceleb_name(number)}.flac")
    write_lines(first / "dev" / "dev.lst", dev_ids)
    write_lines(second / "spk.lst", more_ids)

    enrolled, tests = {}, []
    for spk_id, paths in zip(eval_ids, evaluation, strict=True):
        num_enrolment = ENROLMENT_RECORDINGS if spk_id != eval_ids[-1] else 0
        if num_enrolment:
            concatenate(paths[:num_enrolment], first / "eval" / "enroll" / f"{spk_id}-enroll.flac")
            enrolled[spk_id] = [f"{spk_id}/{cnceleb_name(number)}.wav" for number in range(num_enrolment)]
        for number in range(num_enrolment, len(paths)):
            tests.append((spk_id, f"{spk_id}-{cnceleb_name(number)}"))
            link(paths[number], first / "eval" / "test" / f"{tests[-1][1]}.flac")
    lists = first / "eval" / "lists"  # which say .wav
    write_lines(lists / "enroll.lst", [f"{spk_id}-enroll enroll/{spk_id}-enroll.wav" for spk_id in enrolled])
    write_lines(lists / "enroll.map", [f"{spk_id}-enroll {' '.join(names)}" for spk_id, names in enrolled.items()])
    write_lines(lists / "test.lst", [f"test/{name}.wav" for _, name in tests])
    write_lines(lists / "trials.lst", [f"{enrol}-enroll test/{name}.wav {int(enrol == spk_id)}"
                                       for enrol in enrolled for spk_id, name in tests])


def write_lines(path: Path, lines: list[str]) -> None:
    """Write a list, a line each."""
    from speakerkit.io.files import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(f"{line}\n" for line in lines))


def synthesise_corpus(corpus_dir: Path, num_training: int, num_evaluation: int, num_recordings: int, seed: int) -> None:
    """Synthesise talkers and lay them out as CN-Celeb: two thirds of the training talkers as CN-Celeb1 dev."""
    num_talkers = num_training + num_evaluation
    log.info("synthesising %d recordings each of %d talkers", num_recordings, num_talkers)
    talkers = synthesise_talkers.write_talkers(corpus_dir / "talkers", num_talkers, num_recordings, seed)
    paths = list(talkers.values())
    num_dev = (2 * num_training + 2) // 3
    lay_out_cnceleb(corpus_dir, paths[:num_dev], paths[num_dev:num_training], paths[num_training:])


def read_speech_dir(speech_dir: Path) -> dict[str, list[Recording]]:
    """Speaker -> recordings of a folder with one folder a speaker, all sorted by name.

    Raises:
        DataError: no such folder, or no speaker in it.
    """
    from speakerkit.io.tables import sort_key

    if not speech_dir.is_dir():
        raise DataError(speech_dir, "no such folder; wanted one folder a speaker in it")
    speakers = {}
    folders = [path for path in speech_dir.iterdir() if path.is_dir()]
    for folder in sorted(folders, key=lambda path: sort_key(path.name)):
        files = prepare_cnceleb.audio_files(folder, AUDIO_ENDINGS)
        ids = {name: name if name.startswith(f"{folder.name}-") else f"{folder.name}-{name}" for name in files}
        recordings = [Recording(ids[name], folder.name, files[name]) for name in sorted(files, key=sort_key)]
        if recordings:
            speakers[folder.name] = recordings
    if not speakers:
        raise DataError(speech_dir, f"no SPEAKER/RECORDING file that ends in {' '.join(AUDIO_ENDINGS)}")
    return speakers


def choose_evaluation_speakers(speech_dir: Path, speakers: list[str]) -> set[str]:
    """Who is held out of training: the speakers that evaluation_speakers names, else a third by a digest of the id.

    Raises:
        DataErrors: a name that is no speaker's, or fewer than two speakers on either side.
    """
    path = speech_dir / "evaluation_speakers"
    if path.exists():
        rows = list(prepare_cnceleb.read_fields(path))
        raise_all([DataError(path, f"'{fields[0]}' has no folder with recordings in {speech_dir}", number)
                   for number, fields in rows if fields[0] not in speakers])
        chosen = {fields[0] for _, fields in rows}
    else:
        by_digest = sorted(speakers, key=lambda spk_id: hashlib.sha256(spk_id.encode()).digest())
        chosen = set(by_digest[:len(speakers) // 3])
    if len(chosen) < 2 or len(speakers) - len(chosen) < 2:
        raise DataError(speech_dir, f"{len(speakers) - len(chosen)} speakers to train and {len(chosen)} to evaluate "
                                    "on; wanted at least two of each")
    return chosen


def make_evaluation(speakers: dict[str, list[Recording]]) -> Evaluation:
    """Every speaker's first recordings against the other recordings of all: enrolment is the mean of embeddings."""
    sources, tests = {}, []
    for spk_id, recordings in speakers.items():
        num_enrolment = min(ENROLMENT_RECORDINGS, len(recordings) - 1)
        if num_enrolment:
            sources[f"{spk_id}-enroll"] = recordings[:num_enrolment]
        tests += recordings[num_enrolment:]
    trials = [(enrol_id, test.utt_id, found[0].spk_id == test.spk_id)
              for enrol_id, found in sources.items() for test in tests]
    return Evaluation([], tests, sources, trials)


def write_pair(path: Path, evaluation: Evaluation) -> None:
    """Write the paths of two recordings of one speaker, a line each: an enrolment's first and a test of it."""
    paths = {test.utt_id: test.path for test in evaluation.tests}
    for enrol_id, test_id, is_target in evaluation.trials:
        if is_target:
            write_lines(path, [evaluation.sources[enrol_id][0].path, paths[test_id]])
            return


def prepare(args: argparse.Namespace) -> None:
    train_dir, eval_dir = Path(args.train_dir), Path(args.eval_dir)
    if args.speech_dir:
        speech_dir = Path(args.speech_dir)
        speakers = read_speech_dir(speech_dir)
        held_out = choose_evaluation_speakers(speech_dir, list(speakers))
        training = [recording for spk_id in speakers if spk_id not in held_out for recording in speakers[spk_id]]
        evaluation = make_evaluation({spk_id: speakers[spk_id] for spk_id in speakers if spk_id in held_out})
        where = speech_dir
    else:
        where = Path(args.corpus_dir)
        synthesise_corpus(where, args.talkers, args.evaluation_talkers, args.recordings, args.seed)
        training, _ = prepare_cnceleb.read_training_sets(where)
        evaluation = prepare_cnceleb.read_evaluation(where / prepare_cnceleb.CNCELEB1[0])
    prepare_cnceleb.check_disjoint(training, evaluation, where)
    prepare_cnceleb.write_recordings(train_dir, training)
    prepare_cnceleb.write_evaluation(eval_dir, evaluation)
    write_pair(eval_dir / "pair", evaluation)
    args.report |= {"num_training_recordings": len(training), "num_trials": len(evaluation.trials)}
    prepare_cnceleb.validate([train_dir, eval_dir])


def main(argv: list[str] | None = None) -> int:
    parser = entry.make_parser(
        "prepare_mini.py", formats=FORMATS,
        summary="Synthesise talkers laid out as CN-Celeb (or take real recordings) and make data directories of them.",
        example="local/prepare_mini.py corpora/mini data/train data/eval")
    parser.add_argument("corpus_dir", metavar="CORPUS_DIR", help="where the talkers are written")
    parser.add_argument("train_dir", metavar="TRAIN_DIR", help="data directory to write, for training")
    parser.add_argument("eval_dir", metavar="EVAL_DIR", help="data directory to write, for evaluation")
    parser.add_argument("--speech-dir", metavar="DIR", help="take these recordings and synthesise none")
    for name, default, what in (("--talkers", 60, "to train on"), ("--evaluation-talkers", 20, "to evaluate on"),
                                ("--recordings", 12, "of each talker, two a session")):
        parser.add_argument(name, type=entry.number(int, 4, 700), default=default, metavar="N",
                            help=f"{what} (default: %(default)s)")
    entry.add_seed_option(parser)
    return entry.run(parser, prepare, argv)


if __name__ == "__main__":
    sys.exit(main())
