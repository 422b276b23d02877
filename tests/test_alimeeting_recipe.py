"""recipes/alimeeting/run.sh from AliMeeting's layout to the table, as a user runs it."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import archive_list
import prepare_mini
from alimeeting_files import find_folder

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.timeout(900)  # seconds; about 40 on two idle cores

CHANCE_PERCENT = 50.0
BEATS_CHANCE_BY = 10.0  # percent points; such a network, heard near, has an EER near 20 %
TURNS, TURN_S, RATE = 5, 2.5, 16000
LISTS = [f"{part}.{condition}" for part in ("test", "heldout") for condition in ("far-far", "near-near", "near-far")]


def lay_out_meetings(corpus_dir: Path, speech_files: dict[str, list[Path]], lay_out_meeting) -> None:
    """Meetings of real speakers who take turns: 12 in Train, of whom 4 meet twice, 6 in Test and 3 in Eval."""
    speakers = iter(speech_files.values())
    speech: dict[str, np.ndarray] = {}

    def meet(subset: str, session_id: str, people: list[str]) -> None:
        voices, turns = {}, {}
        for place, speaker in enumerate(people):
            if speaker not in speech:
                samples = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in next(speakers)])
                speech[speaker] = samples / np.abs(samples).max()
            count = round(TURNS * TURN_S * RATE)
            voices[speaker], speech[speaker] = speech[speaker][:count], speech[speaker][count:]
            assert len(voices[speaker]) == count
            # They speak one after the other; the next one begins 0.2 s before a turn ends.
            turns[speaker] = [(start, start + TURN_S) for start in (
                (round_number * len(people) + place) * (TURN_S - 0.2) for round_number in range(TURNS))]
        lay_out_meeting(corpus_dir, subset, session_id, turns, voices=voices, rate=RATE,
                        duration_s=TURNS * len(people) * TURN_S)

    names = [f"{'FM'[number % 2]}_SPK{number:04d}" for number in range(1, 13)]
    for meeting, (room, people) in enumerate([(1, names[:2]), (1, names[:2]), (2, names[2:4]), (2, names[2:4]),
                                              (3, names[4:8]), (4, names[8:])], 1):
        meet("Train", f"R{room:04d}_M{meeting:04d}", people)
    for meeting in (8001, 8002, 8003):
        people = [f"N_SPK{3 * meeting + number}" for number in range(3)]
        meet("Eval" if meeting == 8003 else "Test", f"R{meeting}_M{meeting}", people)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, speech_files, lay_out_meeting) -> Path:
    folder = tmp_path_factory.mktemp("alimeeting") / "corpus"
    lay_out_meetings(folder, speech_files, lay_out_meeting)
    return folder


@pytest.fixture
def options(tmp_path: Path, corpus: Path, tiny_config: Path) -> list:
    tiny_config.write_text(tiny_config.read_text().replace("num_steps = 120", "num_steps = 60"))
    return ["--corpus-dir", corpus, "--data-dir", tmp_path / "data", "--exp-dir", tmp_path / "exp",
            "--config", tiny_config, "--min-duration", 1, "--trial-duration", 2, "--device", "cpu",
            "--precision", "float32", "--nj", "1"]


def rows(stdout: str) -> dict[str, tuple[str, ...]]:
    """The results table: name -> the other cells."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in stdout.splitlines() if line.startswith("| ")]
    return {name: tuple(others) for name, *others in cells[1:]}


def test_from_the_corpus_to_the_table(tmp_path, options, run_recipe):
    first = run_recipe("alimeeting", *options)
    assert first.returncode == 0, first.stderr
    table = rows(first.stdout)
    assert [name for name in table if "," not in name] == LISTS
    for name in LISTS:
        same, across = (table[f"{name}, nontargets of {kind} session"] for kind in ("same", "different"))
        assert same[3] == across[3] == table[name][3]  # all targets in each
        counts = [int(row[4].replace(",", "")) for row in (same, across, table[name])]
        assert counts[0] + counts[1] == counts[2]
    assert float(table["test.near-near, nontargets of same session"][0]) < CHANCE_PERCENT - BEATS_CHANCE_BY
    training = {line.split()[1] for line in (tmp_path / "data/train/utt2spk").read_text().splitlines()}
    tested = {line.split()[1] for line in (tmp_path / "data/protocol/far/utt2spk").read_text().splitlines()}
    assert len(training) == 10
    assert len(tested) == 6 + 2
    assert not training & tested
    record = json.loads((tmp_path / "exp/eval/test.near-far.json").read_text())
    protocol = json.loads((tmp_path / "data/protocol/protocol.json").read_text())
    assert record["num_target"] == protocol["lists"]["test.near-far"]["num_target"]
    assert json.loads((tmp_path / "exp/run.json").read_text())["channel"] == "random"

    again = run_recipe("alimeeting", *options)
    assert again.returncode == 0, again.stderr
    assert "\n$ " not in again.stderr.replace("\n$ cat ", "\n")  # no other command has run
    assert rows(again.stdout) == table
    later = run_recipe("alimeeting", *options, "--stage", 5)
    assert later.returncode == 0, later.stderr
    assert "== stage 4" not in later.stderr
    assert rows(later.stdout) == table


def test_the_classes_of_the_reference(tmp_path, corpus, options, run_recipe, speech_files):
    speakers = [paths[:6] for paths in speech_files.values()][:4]
    prepare_mini.lay_out_cnceleb(tmp_path / "cnceleb", speakers[:1], speakers[1:2], speakers[2:])
    for name in ("dev/dev.lst", "data/id00000"):  # one whom the reference hasn't
        path = tmp_path / "cnceleb/CN-Celeb_flac" / name
        if path.is_dir():
            path.rename(path.with_name("id00143"))
        else:
            path.write_text("id00143\n")
    result = run_recipe("alimeeting", *options, "--training", "reference", "--cnceleb-dir", tmp_path / "cnceleb",
                        "--stop-stage", 1, "--max-duration", 9)
    assert result.returncode == 0, result.stderr
    data = tmp_path / "data/train_all"
    classes = {line.split()[1] for line in (data / "utt2spk").read_text().splitlines()}
    assert {name for name in classes if name.startswith("id")} == {"id10000"}
    assert {name for name in classes if name.startswith("R0003")} == {f"R0003_M0005_S00{n}" for n in (1, 2, 3, 4)}
    assert {name for name in classes if name.startswith("R8")} == {f"R8003_M8003_MS001_S00{n}" for n in (1, 2, 3)}
    assert len([name for name in classes if name.startswith("R0")]) == 4 * 2 + 2 * 4
    assert "train_all has 20 speakers; expected: 3465" in result.stderr
    assert sorted(path.name for path in (tmp_path / "data/protocol").glob("*.*-*")) == [
        "test.far-far", "test.near-far", "test.near-near"]


def test_the_archives_unpack_to_what_is_prepared(tmp_path):
    archives = archive_list.read_archives(str(ROOT / "recipes/alimeeting/archives.toml"))
    for subset, field in itertools.product(("Train", "Eval", "Test"), ("far", "near")):
        inside = [archive.folder if subset == "Train" else f"{archive.folder}/{subset}_Ali_{field}"
                  for archive in archives if archive.folder.startswith(f"{subset}_Ali")]
        for folder in inside:
            (tmp_path / folder / "audio_dir").mkdir(parents=True, exist_ok=True)
        assert find_folder(tmp_path, subset, field) in [tmp_path / folder for folder in inside]
    assert all(part.urls[0].startswith("https://") for archive in archives for part in archive.parts)


@pytest.mark.parametrize("given, message", [
    (["--training", "nobody"], "--training is 'nobody'; want alimeeting, both or reference"),
    (["--fields", "middle"], "--fields is 'middle'; want far,near or one of them"),
    (["--features", "stored"], "--features stored are made of one channel; give --train-channel N or mix"),
    (["--features", "kept"], "--features is 'kept'; want fly, compressed or stored"),
])
def test_wrong_options(tmp_path, run_recipe, given, message):
    result = run_recipe("alimeeting", *given, "--data-dir", tmp_path / "data", "--exp-dir", tmp_path / "exp")
    assert result.returncode == 2
    assert message in result.stderr


def test_a_missing_corpus_is_told_before_anything_is_made(tmp_path, run_recipe):
    result = run_recipe("alimeeting", "--corpus-dir", tmp_path / "nowhere", "--data-dir", tmp_path / "data",
                        "--exp-dir", tmp_path / "exp")
    assert result.returncode == 1
    assert "nowhere: holds neither Train_Ali_far nor Train_Ali_near" in result.stderr
    assert not (tmp_path / "data").exists()
