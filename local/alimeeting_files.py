"""Where AliMeeting's files lie, in whichever of the ways people unpack it, and what their names say.

Layout (openslr.org/119): SET_Ali_FIELD/{audio_dir,textgrid_dir} with SET one of Train, Eval, Test and FIELD far
(one recording of 8 channels a session) or near (a headset a speaker); Eval and Test lie one folder deeper.
Rnnnn_Mnnnn (room, meeting) is the session.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from speakerkit.errors import DataError

SETS = ("Train", "Eval", "Test")
FIELDS = ("far", "near")
FAR_AUDIO = re.compile(r"(R\d+_M\d+)_MS\d+")
NEAR_FILE = re.compile(r"(R\d+_M\d+)_([FMN])_(SPK\d+)")
FAR_TEXTGRID = re.compile(r"(R\d+_M\d+)(_MS\d+)?")


@dataclasses.dataclass
class SessionFiles:
    """The paths of one session's files, by what their names say."""

    far_audio: list[Path] = dataclasses.field(default_factory=list)
    far_textgrid: Path | None = None
    near_audio: dict[str, Path] = dataclasses.field(default_factory=dict)      # speaker -> path
    near_textgrids: dict[str, Path] = dataclasses.field(default_factory=dict)
    genders: dict[str, set[str]] = dataclasses.field(default_factory=dict)     # speaker -> letters in names


def find_folder(corpus_dir: Path, subset: str, field: str) -> Path | None:
    """The folder of a set's field, in whichever of the ways people unpack it."""
    name, outer = f"{subset}_Ali_{field}", f"{subset}_Ali"
    for folder in (name, f"{outer}/{name}", f"{name}/{name}", f"{outer}/{outer}/{name}"):
        if (corpus_dir / folder / "audio_dir").is_dir():
            return corpus_dir / folder
    return None


def find_files(corpus_dir: Path, subset: str, fields: Iterable[str], notes: Counter) -> dict[str, SessionFiles]:
    """Session -> its files, of one set; empty where the set isn't there.

    Raises:
        DataError: a set with one of the wanted fields and not the other.
    """
    folders = {field: find_folder(corpus_dir, subset, field) for field in fields}
    if not any(folders.values()):
        return {}
    for field, folder in folders.items():
        if folder is None:
            raise DataError(corpus_dir, f"has no folder {subset}_Ali_{field}; to do without it: --fields "
                                        f"{','.join(other for other, there in folders.items() if there)}")
    found: dict[str, SessionFiles] = {}
    for field, folder in folders.items():
        for path in sorted([*folder.glob("audio_dir/*"), *folder.glob("textgrid_dir/*")]):
            if not _place(found, field, path):
                notes["files whose name isn't of AliMeeting, left alone"] += not path.name.startswith(".")
    return dict(sorted(found.items()))


def _place(found: dict[str, SessionFiles], field: str, path: Path) -> bool:
    """Put a file where its name says it belongs; False if it says nothing."""
    is_audio, is_textgrid = path.suffix.lower() in (".wav", ".flac"), path.suffix.lower() == ".textgrid"
    name = {("far", True): FAR_AUDIO, ("far", False): FAR_TEXTGRID}.get((field, is_audio), NEAR_FILE)
    match = name.fullmatch(path.stem) if is_audio or is_textgrid else None
    if match is None:
        return False
    files = found.setdefault(match[1], SessionFiles())
    if field == "near":
        files.genders.setdefault(match[3], set()).add(match[2])
        (files.near_audio if is_audio else files.near_textgrids)[match[3]] = path
    elif is_audio:
        files.far_audio.append(path)
    else:
        files.far_textgrid = path
    return True
