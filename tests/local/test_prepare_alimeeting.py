"""AliMeeting's layout -> utterances of one speaker: layouts, ids, labels, what is odd, and every refusal."""

import shutil
from pathlib import Path

import pytest
import soundfile

import prepare_alimeeting
from speakerkit.io.audio import AudioOptions
from speakerkit.io.data_dir_checks import validate_data_dir


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory, lay_out_meeting) -> Path:
    """Three Train sessions (two share two speakers), one of Eval, one of Test; each speaker speaks a few seconds."""
    folder = tmp_path_factory.mktemp("alimeeting")
    a, b, c = "F_SPK0001", "M_SPK0002", "M_SPK0003"
    lay_out_meeting(folder, "Train", "R0001_M0001", {a: [(0.5, 6), (12, 15)], b: [(4, 8)]},
                    tier_names={a: "F_SPK0001", b: "SPK0002"})
    lay_out_meeting(folder, "Train", "R0001_M0002", {a: [(1, 4)], b: [(5, 9)]})
    lay_out_meeting(folder, "Train", "R0002_M0003", {c: [(0, 10), (10, 12.5)]})
    lay_out_meeting(folder, "Eval", "R8001_M8001", {"N_SPK8001": [(1, 4)], "N_SPK8002": [(5, 6)]})
    lay_out_meeting(folder, "Test", "R8002_M8002", {"N_SPK8003": [(1, 4)], "N_SPK8004": [(3, 9)]})
    return folder


@pytest.fixture
def corpus(tmp_path: Path, laid_out: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(laid_out, tmp_path / "corpus")


def prepare(corpus: Path, *options: object) -> tuple[int, Path]:
    data_dir = corpus.parent / "data"
    return prepare_alimeeting.main([*map(str, options), str(corpus), str(data_dir)]), data_dir


def read(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text().splitlines())


def far(subset: str, session_id: str, corpus: Path) -> Path:
    return corpus / ("" if subset == "Train" else f"{subset}_Ali") / f"{subset}_Ali_far/textgrid_dir" / (
        f"{session_id}.TextGrid")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_stretches_are_cut_where_others_join_in(corpus):
    code, data_dir = prepare(corpus, "--held-out", 0)
    assert code == 0
    segments = read(data_dir / "train" / "segments")
    assert segments == {
        # SPK0001 speaks 0.5 to 6 and SPK0002 4 to 8: alone 0.5 to 4 and 6 to 8.
        "SPK0001-R0001_M0001-far-000050-000400": "R0001_M0001_MS001 0.5 4",
        "SPK0001-R0001_M0001-far-001200-001500": "R0001_M0001_MS001 12 15",
        "SPK0001-R0001_M0001-near-000050-000400": "R0001_M0001_F_SPK0001 0.5 4",
        "SPK0001-R0001_M0001-near-001200-001500": "R0001_M0001_F_SPK0001 12 15",
        "SPK0001-R0001_M0002-far-000100-000400": "R0001_M0002_MS001 1 4",
        "SPK0001-R0001_M0002-near-000100-000400": "R0001_M0002_F_SPK0001 1 4",
        "SPK0002-R0001_M0001-far-000600-000800": "R0001_M0001_MS001 6 8",
        "SPK0002-R0001_M0001-near-000600-000800": "R0001_M0001_M_SPK0002 6 8",
        "SPK0002-R0001_M0002-far-000500-000900": "R0001_M0002_MS001 5 9",
        "SPK0002-R0001_M0002-near-000500-000900": "R0001_M0002_M_SPK0002 5 9",
        # Its two intervals touch: one stretch.
        "SPK0003-R0002_M0003-far-000000-001250": "R0002_M0003_MS001 0 12.5",
        "SPK0003-R0002_M0003-near-000000-001250": "R0002_M0003_M_SPK0003 0 12.5"}
    utt2spk = read(data_dir / "train" / "utt2spk")
    assert all(utt_id.startswith(f"{spk_id}-") for utt_id, spk_id in utt2spk.items())
    assert read(data_dir / "test" / "segments").keys() == {
        f"{name}-{field}-{times}" for field in ("far", "near") for name, times in (
            ("SPK8003-R8002_M8002", "000100-000300"), ("SPK8004-R8002_M8002", "000400-000900"))}
    for name in ("train", "eval", "test"):
        counts, _ = validate_data_dir(data_dir / name, options=AudioOptions(channel=0))
        assert counts["num_utterances"] == len(read(data_dir / name / "utt2spk"))


def test_whole_segments_overlap_nothing(corpus):
    _, data_dir = prepare(corpus, "--held-out", 0, "--segments", "whole", "--fields", "far", "--sets", "Train")
    assert list(read(data_dir / "train" / "segments")) == [
        "SPK0001-R0001_M0001-far-001200-001500", "SPK0001-R0001_M0002-far-000100-000400",
        "SPK0002-R0001_M0002-far-000500-000900", "SPK0003-R0002_M0003-far-000000-001000",
        "SPK0003-R0002_M0003-far-001000-001250"]
    assert not (data_dir / "test").exists()


def test_durations(corpus):
    _, data_dir = prepare(corpus, "--held-out", 0, "--fields", "near", "--sets", "Train", "--min-duration", 3.2,
                          "--max-duration", 6.4)
    assert list(read(data_dir / "train" / "segments").values()) == [
        "R0001_M0001_F_SPK0001 0.5 4", "R0001_M0002_M_SPK0002 5 9",
        "R0002_M0003_M_SPK0003 0 6.25", "R0002_M0003_M_SPK0003 6.25 12.5"]


def test_labels_of_the_reference_count_tiers_in_each_meeting(corpus):
    _, data_dir = prepare(corpus, "--held-out", 0, "--labels", "meetings", "--fields", "far")
    assert read(data_dir / "train" / "utt2spk") == {
        "R0001_M0001_S001-far-000050-000400": "R0001_M0001_S001", "R0001_M0001_S001-far-001200-001500":
        "R0001_M0001_S001", "R0001_M0001_S002-far-000600-000800": "R0001_M0001_S002",
        "R0001_M0002_S001-far-000100-000400": "R0001_M0002_S001", "R0001_M0002_S002-far-000500-000900":
        "R0001_M0002_S002", "R0002_M0003_S001-far-000000-001250": "R0002_M0003_S001"}
    # SPK8002 speaks 1 second: no stretch of 2, no class, as the reference lost three of its 683.
    assert set(read(data_dir / "eval" / "utt2spk").values()) == {"R8001_M8001_MS001_S001"}


def test_who_meets_again_is_held_out_with_the_sessions(corpus, capsys):
    code, data_dir = prepare(corpus)
    assert code == 0
    assert set(read(data_dir / "train" / "utt2spk").values()) == {"SPK0003"}
    assert "2 Train sessions and 2 speakers are held out" in capsys.readouterr().err


def test_tables_to_break_results_down_by(corpus):
    _, data_dir = prepare(corpus, "--held-out", 0)
    utt_id = "SPK0002-R0001_M0001-near-000600-000800"
    assert {path.name: read(path)[utt_id] for path in (data_dir / "train").glob("utt2*") if path.name != "utt2spk"} == {
        "utt2condition": "near", "utt2session": "R0001_M0001", "utt2room": "R0001", "utt2gender": "m",
        "utt2dur": "2.00"}
    assert set(read(data_dir / "test" / "utt2gender").values()) == {"unknown"}


def flatten(corpus: Path) -> None:
    for path in corpus.glob("*_Ali/*"):
        path.rename(corpus / path.name)


def nest_train(corpus: Path) -> None:
    (corpus / "Train_Ali").mkdir()
    for path in corpus.glob("Train_Ali_*"):
        path.rename(corpus / "Train_Ali" / path.name)


def nest_twice(corpus: Path) -> None:
    (corpus / "Eval_Ali").rename(corpus / "Eval")
    (corpus / "Eval_Ali").mkdir()
    (corpus / "Eval").rename(corpus / "Eval_Ali" / "Eval_Ali")


@pytest.mark.parametrize("lay_out", [flatten, nest_train, nest_twice])
def test_every_way_to_unpack_is_found(corpus, lay_out):
    _, data_dir = prepare(corpus)
    before = {path: path.read_bytes() for path in data_dir.glob("*/segments")}
    shutil.rmtree(data_dir)
    lay_out(corpus)
    assert prepare(corpus)[0] == 0
    assert {path: path.read_bytes() for path in data_dir.glob("*/segments")} == before


def test_running_again_gives_the_same_bytes(corpus):
    _, data_dir = prepare(corpus)
    before = {path: path.read_bytes() for path in data_dir.glob("*/*")}
    assert prepare(corpus)[0] == 0
    assert before == {path: path.read_bytes() for path in data_dir.glob("*/*")}


def test_counts_are_told_beside_the_published_ones(corpus, capsys):
    prepare(corpus)
    told = capsys.readouterr().err
    assert "Train sessions: 3 (published: 209)" in told
    assert "Train speakers in two or more sessions: 2 (published: 227)" in told
    assert "Test intervals: 2 (published: 16,358)" in told


def test_near_annotation_serves_where_there_is_no_far_field(corpus):
    _, data_dir = prepare(corpus, "--fields", "near")
    before = (data_dir / "test" / "segments").read_bytes()
    for path in corpus.glob("**/*_far"):
        shutil.rmtree(path)
    assert prepare(corpus, "--fields", "near")[0] == 0
    assert (data_dir / "test" / "segments").read_bytes() == before


@pytest.mark.parametrize("encoding, options", [("utf-16", ()), ("gb18030", ("--encoding", "gb18030"))])
def test_other_encodings(corpus, capsys, encoding, options):
    _, data_dir = prepare(corpus)
    before = (data_dir / "train" / "segments").read_bytes()
    for path in corpus.glob("**/*.TextGrid"):
        path.write_bytes(path.read_text().encode(encoding))
    assert prepare(corpus, *options)[0] == 0
    assert (data_dir / "train" / "segments").read_bytes() == before
    if options:
        assert prepare(corpus)[0] == 1
        assert "(the file looks like GBK); give its encoding: gb18030" in capsys.readouterr().err


# ---- odd, and handled

def overhang(corpus: Path) -> None:
    edit(far("Test", "R8002_M8002", corpus), "xmax = 9\n", "xmax = 23.5\n")


def silence(corpus: Path) -> None:
    path = far("Test", "R8002_M8002", corpus)
    path.write_text(path.read_text().replace("xmax = 9\n            text = \"好\"",
                                             "xmax = 9\n            text = \"(sil) (/OVERLAP)\""))


def zero_length(corpus: Path) -> None:
    edit(far("Test", "R8002_M8002", corpus), "xmin = 3\n            xmax = 9\n", "xmin = 3\n            xmax = 3\n")


@pytest.mark.parametrize("change, segments, told", [
    (overhang, ["R8002_M8002_MS001 1 3", "R8002_M8002_MS001 4 20"],
     "R8002_M8002: annotation ends 3.50 s after the audio; 1 intervals trimmed"),
    (silence, ["R8002_M8002_MS001 1 4"], "intervals without words, left out: 1"),
    (zero_length, ["R8002_M8002_MS001 1 4"], "intervals without length, left out: 1"),
])
def test_oddities_are_handled_and_named(corpus, capsys, change, segments, told):
    change(corpus)
    code, data_dir = prepare(corpus, "--sets", "Test", "--fields", "far")
    assert code == 0
    assert list(read(data_dir / "test" / "segments").values()) == segments
    assert told in capsys.readouterr().err


def test_strict_refuses_what_is_odd(corpus, capsys):
    zero_length(corpus)
    assert prepare(corpus, "--strict")[0] == 1
    assert "R8002_M8002.TextGrid:26: interval at 3 s has no length; left out" in capsys.readouterr().err


def test_a_known_defect_is_left_out_unless_it_is_wanted(corpus, lay_out_meeting, capsys):
    lay_out_meeting(corpus, "Train", "R1021_M1947", {"F_SPK0009": [(1, 9)]})
    _, data_dir = prepare(corpus)
    assert "SPK0009" not in read(data_dir / "train" / "utt2spk").values()
    assert "R1021_M1947: left out, a known defect: 26 minutes of audio" in capsys.readouterr().err
    assert prepare(corpus, "--keep-defective")[0] == 0
    assert "SPK0009" in read(data_dir / "train" / "utt2spk").values()


def test_annotation_of_another_recording_is_left_out(corpus, capsys):
    edit(far("Test", "R8002_M8002", corpus), "xmax = 9\n", "xmax = 95\n")
    assert prepare(corpus)[0] == 0
    assert "R8002_M8002: left out, a known defect: its annotation ends 75 s after its audio" in capsys.readouterr().err


def test_a_headset_that_stops_early_is_trimmed(corpus, capsys):
    path = corpus / "Test_Ali/Test_Ali_near/audio_dir/R8002_M8002_N_SPK8004.wav"
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples[: 8 * rate], rate)
    _, data_dir = prepare(corpus, "--sets", "Test")
    segments = read(data_dir / "test" / "segments")
    assert segments["SPK8004-R8002_M8002-near-000400-000900"] == "R8002_M8002_N_SPK8004 4 8"
    assert segments["SPK8004-R8002_M8002-far-000400-000900"] == "R8002_M8002_MS001 4 9"
    assert "stretches beyond the end of their recording, trimmed or left out: 1" in capsys.readouterr().err


def test_a_speaker_with_two_genders_is_named(corpus, capsys):
    for path in corpus.glob("Train_Ali_near/*/R0001_M0002_M_SPK0002.*"):
        path.rename(path.with_name(path.name.replace("M_SPK", "F_SPK")))
    edit(far("Train", "R0001_M0002", corpus), "M_SPK0002", "F_SPK0002")
    assert prepare(corpus)[0] == 0
    assert "SPK0002 is called f and m: R0001_M0001, R0001_M0002" in capsys.readouterr().err


# ---- refused

def lose_far_audio(corpus: Path) -> None:
    (corpus / "Test_Ali/Test_Ali_far/audio_dir/R8002_M8002_MS001.wav").unlink()


def add_far_audio(corpus: Path) -> None:
    path = corpus / "Test_Ali/Test_Ali_far/audio_dir/R8002_M8002_MS001.wav"
    shutil.copy(path, path.with_name("R8002_M8002_MS002.wav"))


def lose_near_audio(corpus: Path) -> None:
    (corpus / "Test_Ali/Test_Ali_near/audio_dir/R8002_M8002_N_SPK8003.wav").unlink()


def add_near_audio(corpus: Path) -> None:
    path = corpus / "Test_Ali/Test_Ali_near/audio_dir/R8002_M8002_N_SPK8003.wav"
    shutil.copy(path, path.with_name("R8002_M8002_N_SPK8099.wav"))


def lose_annotation(corpus: Path) -> None:
    far("Test", "R8002_M8002", corpus).unlink()
    for path in corpus.glob("Test_Ali/Test_Ali_near/textgrid_dir/*"):
        path.unlink()


def cut_audio(corpus: Path) -> None:
    path = corpus / "Test_Ali/Test_Ali_far/audio_dir/R8002_M8002_MS001.wav"
    path.write_bytes(path.read_bytes()[:1000])


def cut_annotation(corpus: Path) -> None:
    path = far("Test", "R8002_M8002", corpus)
    path.write_text(path.read_text()[:300])


def name_nobody(corpus: Path) -> None:
    edit(far("Test", "R8002_M8002", corpus), "N_SPK8003", "N_Li")


def name_one_twice(corpus: Path) -> None:
    edit(far("Test", "R8002_M8002", corpus), "R8002_M8002_N_SPK8004", "SPK8003")


@pytest.mark.parametrize("damage, message", [
    (lose_far_audio, "R8002_M8002.TextGrid: R8002_M8002 has 0 far recordings (none); wanted one"),
    (add_far_audio, "R8002_M8002 has 2 far recordings (R8002_M8002_MS001.wav, R8002_M8002_MS002.wav); wanted one"),
    (lose_near_audio, "R8002_M8002.TextGrid: SPK8003 of R8002_M8002 has no near recording"),
    (add_near_audio, "N_SPK8099.wav: SPK8099 is not in the annotation of R8002_M8002"),
    (lose_annotation, "R8002_M8002_MS001.wav: R8002_M8002 has no TextGrid"),
    (cut_audio, "R8002_M8002_MS001.wav: truncated: "),
    (cut_annotation, "R8002_M8002.TextGrid:16: file ends inside interval 1 of 1 of tier"),
    (name_nobody, "R8002_M8002.TextGrid:10: tier 'R8002_M8002_N_Li' names no speaker; wanted [Rnnnn_Mnnnn_]"),
    (name_one_twice, "R8002_M8002.TextGrid:20: a second tier is of SPK8003"),
])
def test_a_faulty_session_is_refused_or_left_out(corpus, lay_out_meeting, capsys, damage, message):
    lay_out_meeting(corpus, "Test", "R8004_M8003", {"N_SPK8005": [(1, 4)]})
    damage(corpus)
    code, data_dir = prepare(corpus)
    assert code == 1
    told = capsys.readouterr().err
    assert message in told
    assert "1 of 6 sessions can't be used; --max-bad 1 does without them" in told
    assert not data_dir.exists()
    assert prepare(corpus, "--max-bad", 1)[0] == 0
    assert set(read(data_dir / "test" / "utt2spk").values()) == {"SPK8005"}


def nothing_there(corpus: Path) -> None:
    for path in corpus.iterdir():
        path.rename(path.with_name(f"x{path.name}"))


def no_near_field(corpus: Path) -> None:
    (corpus / "Train_Ali_near").rename(corpus / "x")


def share_a_speaker(corpus: Path) -> None:
    edit(far("Train", "R0002_M0003", corpus), "M_SPK0003", "M_SPK8003")
    for path in corpus.glob("Train_Ali_near/*/R0002_M0003_M_SPK0003.*"):
        path.rename(path.with_name(path.name.replace("SPK0003", "SPK8003")))


@pytest.mark.parametrize("damage, options, code, message", [
    (nothing_there, (), 1, "corpus: holds none of Train_Ali_far, Train_Ali_near, Eval_Ali_far"),
    (no_near_field, (), 1, "corpus: has no folder Train_Ali_near; to do without it: --fields far"),
    (share_a_speaker, (), 1, "corpus: speaker 'SPK8003' is in Test and Train"),
    (shutil.rmtree, (), 1, "corpus: no such folder"),
    (None, ("--min-duration", 15), 1, "corpus: Train has no stretch of 15 s that is left to use"),
    (None, ("--fields", "far,middle"), 2, "'far,middle' is not some of far,near"),
    (None, ("--min-duration", 4, "--max-duration", 7), 2, "--max-duration 7 is less than twice --min-duration 4"),
])
def test_refusals(corpus, capsys, damage, options, code, message):
    if damage:
        damage(corpus)
    data_dir = corpus.parent / "data"
    try:
        found = prepare(corpus, *options)[0]
    except SystemExit as refused:
        found = refused.code
    assert found == code
    assert message in capsys.readouterr().err
    assert not data_dir.exists()
