"""An evaluation set as it lies on disk: enroll/, test/ and trial lists, in a folder or in an archive."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from speakerkit.errors import DataError, raise_all
from speakerkit.io import archives
from speakerkit.io.trials import Trials, read_trials
from speakerkit.jobs.scoring import why_no_metrics

log = logging.getLogger(__name__)

ENROL_FOLDER, TEST_FOLDER = "enroll", "test"
ENROL_SUFFIX = "-enroll"  # of enrolment files; lists name them with or without it
_EXTENSIONS = (".wav", ".flac")  # the earlier one where both are there
_MANY = 1000


@dataclass(frozen=True)
class EvaluationSet:
    """Labelled trials and where the recording of each id lies."""

    folder: Path
    trials: Trials
    recordings: dict[str, str]  # id as the trials have it -> absolute path; enrolments first


def read_evaluation_set(folder: Path, trials: str) -> EvaluationSet:
    """The trials and their recordings.

    Args:
        folder: what `find_evaluation_folder` gave.
        trials: '<enrol> <test> target|nontarget' lines; a path inside the folder, else from the working folder.

    Raises:
        DataError, DataErrors: no such list, no labels or only one of the two, a label that is neither
            target/nontarget nor 1/0, an id without a recording, an id that names two recordings.
    """
    listed = read_trials(_find_trials(folder, trials))
    if fault := why_no_metrics(listed):  # said before hours of extraction
        raise DataError(listed.path, f"{fault}: EER needs both classes")
    lines = listed.first_lines()
    faults: list[DataError] = []
    enrol = _find_recordings(folder / ENROL_FOLDER, listed.enrol_ids, ENROL_SUFFIX, listed.path, lines[0], faults)
    test = _find_recordings(folder / TEST_FOLDER, listed.test_ids, "", listed.path, lines[1], faults)
    for number, test_id in enumerate(listed.test_ids):
        if test_id in enrol:
            faults.append(DataError(listed.path, f"'{test_id}' names an enrolment and a test recording",
                                    int(lines[1][number])))
    raise_all(sorted(faults, key=lambda fault: fault.line)[:_MANY])
    log.info("%s: %s trials of %s enrolments and %s test recordings", listed.path, f"{len(listed):,}",
             f"{len(enrol):,}", f"{len(test):,}")
    return EvaluationSet(folder, listed, enrol | test)


def find_evaluation_folder(folder: str | os.PathLike) -> Path:
    """The folder that holds enroll/ and test/: this one, or eval/ inside it.

    Raises:
        DataError: neither does.
    """
    for candidate in (Path(folder), Path(folder) / "eval"):
        if (candidate / ENROL_FOLDER).is_dir() and (candidate / TEST_FOLDER).is_dir():
            return Path(os.path.abspath(candidate))
    raise DataError(folder, f"holds no {ENROL_FOLDER}/ and {TEST_FOLDER}/, nor does eval/ inside it")


def unpack_evaluation_archive(archive: str | os.PathLike, folder: Path, overwrite: bool, show: bool) -> str:
    """Unpack an archive unless that is done, with a progress bar; its SHA-256.

    Raises:
        DataError, ConfigError, MachineError: as `io.archives.unpack_once`.
    """
    size = os.path.getsize(archive) if os.path.exists(archive) else None
    with tqdm(total=size, desc="unpack", unit="B", unit_scale=True, dynamic_ncols=True, leave=False, delay=1.0,
              disable=None if show else True) as bar:
        unpacked = archives.unpack_once(archive, folder, overwrite, progress=lambda done: bar.update(done - bar.n))
    log.info("%s: %s files, %.1f MB", folder, f"{unpacked.num_files:,}", unpacked.num_bytes / 1e6)
    return unpacked.sha256


def _find_trials(folder: Path, trials: str) -> Path:
    for candidate in (folder / trials, Path(trials)):
        if candidate.is_file():
            return candidate
    there = sorted(str(path.relative_to(folder)) for path in folder.glob("lists/trials*"))
    hint = f"; --trials can name {', '.join(there)}" if there else ""
    raise DataError(folder / trials, f"no such list of trials{hint}")


def _find_recordings(folder: Path, ids: list[str], suffix: str, trials_path: str, lines: Iterable[int],
                     faults: list[DataError]) -> dict[str, str]:
    """id -> path; ids are only compared with the names that are there, so that none leads out of the folder."""
    names = {os.path.relpath(os.path.join(place, name), folder) for place, _, files in os.walk(folder)
             for name in files if name.endswith(_EXTENSIONS)}
    found = {}
    for name, line in zip(ids, lines, strict=True):
        stem = _name_inside(folder, name)
        for extension in _EXTENSIONS:
            stem = stem.removesuffix(extension)
        other = stem.removesuffix(suffix) if suffix and stem.endswith(suffix) else stem + suffix
        wanted = [form + extension for form in dict.fromkeys((stem, other)) for extension in _EXTENSIONS]
        there = [candidate for candidate in wanted if candidate in names]
        if there:
            found[name] = str(folder / there[0])
        else:
            faults.append(DataError(trials_path, f"'{name}' has no recording in {folder}: want {' or '.join(wanted)}",
                                    int(line)))
    return found


def _name_inside(folder: Path, name: str) -> str:
    """A listed path from `folder` on: `test/x.wav`, `./eval/test/x.wav` and the whole path name one recording."""
    parts = [part for part in name.removeprefix(f"{folder}/").split("/") if part != "."]
    for count in range(len(parts) - 1, 0, -1):
        if tuple(parts[:count]) in (folder.parts[-count:], ("eval", folder.name)):
            return "/".join(parts[count:])
    return "/".join(parts)
