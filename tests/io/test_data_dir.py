import os

import numpy as np
import pytest
import soundfile

from speakerkit.errors import DataError, DataErrors
from speakerkit.io import data_dir, data_dir_checks
from speakerkit.io.ark import ArkWriter
from speakerkit.io.audio import AudioOptions
from speakerkit.io.tables import Segment

UTT2SPK = {"a-1": "a", "a-2": "a", "b-1": "b", "b-2": "b"}


def write_wav(path, seconds=1.0, rate=16000, channels=1):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (int(seconds * rate), channels))
    soundfile.write(path, samples, rate)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    """A data directory without a fault: four recordings, two speakers, features, trials."""
    data = tmp_path / "data"
    data_dir.write_data_dir(data, utt2spk=UTT2SPK,
                            wav_scp={utt_id: write_wav(tmp_path / f"{utt_id}.wav") for utt_id in UTT2SPK})
    with ArkWriter(data / "feats.ark", data / "feats.scp") as writer:
        for index, utt_id in enumerate(UTT2SPK):
            writer.write(utt_id, np.ones((90 + index, 4), np.float32))
    data_dir.write_data_dir(data, utt2num_frames={utt_id: 90 + index for index, utt_id in enumerate(UTT2SPK)})
    (data / "trials").write_text("a-1 a-2 target\na-1 b-1 nontarget\nb-1 a-2 nontarget\n")
    return data


def faults(folder, **kwargs):
    with pytest.raises(DataError) as caught:
        data_dir_checks.validate_data_dir(folder, **kwargs)
    return str(caught.value).replace(f"{folder}/", "").replace(f"{folder.parent}/", "").splitlines()


def warnings(folder, **kwargs):
    return [text.replace(f"{folder}/", "") for text in data_dir_checks.validate_data_dir(folder, **kwargs)[1]]


# --- read ----------------------------------------------------------------------------------------------------------


def test_all_tables_are_read(folder, tmp_path):
    (folder / "segments").write_text("a-1 a-1 0 1\n")
    data = data_dir.read_data_dir(folder)
    assert data.path == str(folder)
    assert data.wav_scp.values["a-1"] == f"{tmp_path}/a-1.wav"
    assert data.utt2spk.values == UTT2SPK and data.utt2spk.lines["b-2"] == 4
    assert data.spk2utt == {"a": ["a-1", "a-2"], "b": ["b-1", "b-2"]}
    assert data.segments == {"a-1": Segment("a-1", 0.0, 1.0, 1)}
    assert data.feats_scp.values["a-1"] == f"{folder}/feats.ark:4"
    assert data.utt2num_frames.values["b-2"] == "93"
    assert data.trials_path == f"{folder}/trials"


def test_what_is_not_there_is_none(tmp_path):
    (tmp_path / "wav.scp").write_text("a cat x.wav |\n")
    data = data_dir.read_data_dir(tmp_path)
    assert data.wav_scp.values == {"a": "cat x.wav |"}
    assert (data.utt2spk, data.spk2utt, data.segments, data.feats_scp, data.utt2num_frames, data.trials_path) == (
        None, None, None, None, None, None)


def test_relative_recordings(folder, tmp_path, monkeypatch):
    (folder / "here.wav").write_bytes(b"")
    (folder / "wav.scp").write_text("a-1 here.wav\na-2 data/here.wav\nb-1 nowhere.wav\n")
    monkeypatch.chdir(tmp_path)
    assert list(data_dir.read_data_dir("data").wav_scp.values.values()) == [
        f"{folder}/here.wav", f"{folder}/here.wav", f"{tmp_path}/nowhere.wav"]


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="nope: no such folder"):
        data_dir.read_data_dir(tmp_path / "nope")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: is no folder; wanted a data directory"):
        data_dir_checks.validate_data_dir(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_may_not_be_entered(folder):
    folder.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may enter any
        with pytest.raises(DataError, match="data: can't be read: permission denied; wanted a data directory"):
            data_dir.read_data_dir(folder)
    finally:
        os.seteuid(user)
        folder.chmod(0o755)


def test_faults_of_all_tables_come_together(folder):
    (folder / "wav.scp").write_text("a-1\na-2 -\nb-1 ~/x.wav\n")
    (folder / "utt2spk").write_text("a-1 a x\n")
    (folder / "utt2num_frames").write_text("a-1 0\na-2 -5\nb-1 x\nb-2 ²\n")
    with pytest.raises(DataErrors) as caught:
        data_dir.read_data_dir(folder)
    assert str(caught.value).replace(f"{folder}/", "").splitlines() == [
        "wav.scp:1: 'a-1' has no path",
        "utt2spk:1: 3 fields; wanted '<utt-id> <spk-id>'",
        "utt2num_frames:1: '0' is no number of frames; wanted 1 or more",
        "utt2num_frames:2: '-5' is no number of frames; wanted 1 or more",
        "utt2num_frames:3: 'x' is no number of frames; wanted 1 or more",
        "utt2num_frames:4: '²' is no number of frames; wanted 1 or more",
    ]
    (folder / "wav.scp").write_text("a-2 -\nb-1 ~/x.wav\n")
    assert faults(folder)[:2] == ["wav.scp:1: '-' is standard input; wanted a path",
                                  f"wav.scp:2: '~/x.wav' begins with '~'; write {os.path.expanduser('~/x.wav')}"]


# --- write ---------------------------------------------------------------------------------------------------------


def test_tables_are_sorted_as_bytes_and_spk2utt_is_derived(tmp_path):
    utt2spk = {"é-1": "é", "b-2": "b", "B-1": "B", "b-10": "b", "b-1": "b"}
    data_dir.write_data_dir(tmp_path / "new", utt2spk=utt2spk, wav_scp={key: f"/x/{key}.wav" for key in utt2spk},
                            segments={"b-1": Segment("b", 0.0, 1.25, 0), "a": Segment("b", 1e-6, -1.0, 0),
                                      "c": Segment("b", 100000.0, 123456.789, 0)},
                            extra={"utt2dur": {"b": 1.5, "a": 2}})
    read = {path.name: path.read_text() for path in (tmp_path / "new").iterdir()}
    assert read == {
        "utt2spk": "B-1 B\nb-1 b\nb-10 b\nb-2 b\né-1 é\n",
        "spk2utt": "B B-1\nb b-1 b-10 b-2\né é-1\n",
        "wav.scp": "B-1 /x/B-1.wav\nb-1 /x/b-1.wav\nb-10 /x/b-10.wav\nb-2 /x/b-2.wav\né-1 /x/é-1.wav\n",
        "segments": "a b 0.000001 -1\nb-1 b 0 1.25\nc b 100000 123456.789\n",
        "utt2dur": "a 2\nb 1.5\n",
    }


def test_features_of_other_utterances_go(folder, caplog):
    names = set(os.listdir(folder))
    wav_scp = data_dir.read_data_dir(folder).wav_scp.values
    data_dir.write_data_dir(folder, utt2spk=UTT2SPK, wav_scp=wav_scp)
    assert set(os.listdir(folder)) == names  # the same utterances
    with caplog.at_level("INFO", "speakerkit"):
        data_dir.write_data_dir(folder, utt2spk={"a-1": "a"}, wav_scp={"a-1": wav_scp["a-1"]})
    assert names - set(os.listdir(folder)) == {"feats.scp", "utt2num_frames"}
    assert caplog.messages[0] == f"{folder}/feats.scp: removed, the utterances are others now"


@pytest.mark.parametrize("tables, told", [
    ({"wav_scp": {"a b": "x"}}, "wav.scp: can't be written: 'a b' holds U.0020"),
    ({"utt2spk": {"a": ""}}, "utt2spk: can't be written: 'a' has the value ''"),
])
def test_what_could_not_be_read_back_is_not_written(tmp_path, tables, told):
    with pytest.raises(DataError, match=told):
        data_dir.write_data_dir(tmp_path, **tables)
    assert os.listdir(tmp_path) == []


# --- validate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_audio", [False, True])
def test_a_good_directory(folder, read_audio):
    counts, told = data_dir_checks.validate_data_dir(folder, read_audio)
    assert counts == {"num_recordings": 4, "num_utterances": 4, "num_speakers": 2, "audio_seconds": 4.0,
                      "sample_rate": 16000, "num_frames": 366, "feature_dim": 4,
                      "num_trials": 3, "num_target": 1, "num_nontarget": 2}
    assert told == []


def test_features_alone_are_enough(folder):
    (folder / "wav.scp").unlink()
    (folder / "trials").unlink()
    assert data_dir_checks.validate_data_dir(folder)[0] == {
        "num_utterances": 4, "num_speakers": 2, "num_frames": 366, "feature_dim": 4}


def test_progress_goes_through_the_recordings(folder):
    seen = []

    def progress(recordings):
        assert len(recordings) == 4
        for rec_id in recordings:
            seen.append(rec_id)
            yield rec_id

    data_dir_checks.validate_data_dir(folder, progress=progress)
    assert seen == list(UTT2SPK)


def replace(name, old, new):
    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))
    return change


def remove(name):
    return lambda folder: (folder / name).unlink()


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize("change, told", [
    (remove("utt2spk"), ["utt2spk: no such file; wanted '<utt-id> <spk-id>' a line"]),
    (write("utt2spk", ""), ["utt2spk: is empty; wanted '<utt-id> <spk-id>' a line"]),
    (replace("utt2spk", "b-2 b", "b-2"), ["utt2spk:4: 1 fields; wanted '<utt-id> <spk-id>'"]),
    (replace("utt2spk", "a-2", "a-3"), [
        "utt2spk:2: 1 of 4 ids is not in wav.scp, which has 4: 'a-3'",
        "wav.scp:2: 1 of 4 ids is not in utt2spk, which has 4: 'a-2'",
        "utt2spk:2: 1 of 4 ids is not in feats.scp, which has 4: 'a-3'",
        "feats.scp:2: 1 of 4 ids is not in utt2spk, which has 4: 'a-2'",
        "spk2utt:1: 'a-2' is not in utt2spk",
        "utt2spk:2: 1 of 4 ids is not in spk2utt, which has 4: 'a-3'"]),
    (replace("spk2utt", "b b-1 b-2", "b b-1"), ["utt2spk:4: 1 of 4 ids is not in spk2utt, which has 3: 'b-2'"]),
    (replace("spk2utt", "a a-1 a-2\nb", "a a-1\nb a-2"), ["spk2utt:2: 'a-2' is of 'b' here and of 'a' in utt2spk"]),
    (replace("utt2num_frames", "a-2 91", "a-2 90"), ["utt2num_frames:2: 'a-2' has 90 frames here and 91 in feats.scp"]),
    (replace("utt2num_frames", "a-2 91\n", ""), [
        "feats.scp:2: 1 of 4 ids is not in utt2num_frames, which has 3: 'a-2'"]),
    (replace("trials", "b-1 a-2", "a-1"), ["trials:3: no label, but the lines before have one"]),
    (write("segments", "a-1 a-1 0 0.5\na-2 a-1 0.5 1\nb-1 x 0 1\nb-2 b-1 0 1\n"), [
        "segments:3: recording 'x' is not in wav.scp"]),
    (write("segments", "a-1 a-1 0 1.04\na-2 a-1 0.5 1.06\nb-1 b-1 1.5 -1\nb-2 b-1 0 0.25\n"), [
        "segments:2: segment from 0.5 to 1.06 s goes past the end of 'a-1' at 1.000 s",
        "segments:3: segment from 1.5 to -1 s goes past the end of 'b-1' at 1.000 s",
        "segments:4: segment of 0.250 s is too short; wanted at least 0.3 s"]),
    (replace("wav.scp", "a-2.wav", "nope.wav"), ["wav.scp:2: nope.wav: missing: no such file"]),
    (replace("feats.scp", "feats.ark:374", "feats.ark:375"), None),
    (write("feats.scp", "a-1 x |\n"), [
        "utt2spk:2: 3 of 4 ids are not in feats.scp, which has 1: 'a-2', 'b-1', 'b-2'",
        "utt2num_frames:2: 3 of 4 ids are not in feats.scp, which has 1: 'a-2', 'b-1', 'b-2'",
        "feats.scp:1: 'x |' is a shell pipe; wanted an archive and an offset"]),
])
def test_a_fault_has_its_line(folder, change, told):
    if told is None:  # an offset in the middle of a matrix; its digits depend on the matrices before
        lines = (folder / "feats.scp").read_text().splitlines()
        offset = int(lines[1].rpartition(":")[2])
        replace("feats.scp", f":{offset}\n", f":{offset + 1}\n")(folder)
        told = [f"feats.scp:2: offset {offset + 1} in data/feats.ark holds no key, wanted 'a-2'"]
        assert [line.replace("in feats.ark", "in data/feats.ark") for line in faults(folder)] == told
        return
    change(folder)
    assert faults(folder) == told


def test_neither_recordings_nor_features(folder):
    for name in ("wav.scp", "feats.scp"):
        (folder / name).unlink()
    write("segments", "a-1 a-1 0 1\na-2 a-1 0 1\nb-1 a-1 0 1\nb-2 a-1 0 1\n")(folder)
    assert faults(folder) == [f"{folder}: has neither wav.scp nor feats.scp".replace(f"{folder.parent}/", ""),
                              "segments: there is no wav.scp whose segments these could be"]


def test_many_missing_ids_are_counted_with_five_examples(tmp_path):
    utt2spk = {f"s-{index}": "s" for index in range(9)}
    data_dir.write_data_dir(tmp_path, utt2spk=utt2spk, wav_scp={"s-0": write_wav(tmp_path / "x.wav")})
    assert faults(tmp_path) == [
        "utt2spk:2: 8 of 9 ids are not in wav.scp, which has 1: 's-1', 's-2', 's-3', 's-4', 's-5', ..."]


def test_matrices_that_do_not_fit(folder):
    with ArkWriter(folder / "feats.ark", folder / "feats.scp") as writer:
        for utt_id, shape in zip(UTT2SPK, [(90, 4), (91, 5), (0, 0), (93,)], strict=True):
            writer.write(utt_id, np.ones(shape, np.float32))
    (folder / "utt2num_frames").unlink()
    told = faults(folder)
    assert told[:2] == ["feats.scp:2: 'a-2' has 5 columns; others have 4", "feats.scp:3: 'b-1' has no frames"]
    assert told[2].startswith("feats.scp:4: feats.ark: 'b-2' at byte ") and told[2].endswith("wanted a matrix")
    (folder / "feats.ark").unlink()
    assert faults(folder)[0] == "feats.scp:1: feats.ark: no such file"


def test_recordings_are_checked_as_the_options_say(folder, tmp_path):
    write_wav(tmp_path / "a-1.wav", channels=2)
    write_wav(tmp_path / "a-2.wav", seconds=0.2)
    soundfile.write(tmp_path / "b-1.wav", np.zeros(16000), 16000)
    told = faults(folder)
    assert [line.partition(" ")[0] for line in told] == ["wav.scp:1:", "wav.scp:2:"]
    assert "a-1.wav: channel-not-chosen: " in told[0] and "a-2.wav: too-short: " in told[1]
    told = faults(folder, read_audio=True, options=AudioOptions(channel="mix", min_duration_s=0.1))
    assert len(told) == 1 and "wav.scp:3: b-1.wav: silent: " in told[0]


def test_pipes_are_refused_or_left_alone_or_run(folder, tmp_path):
    marker = tmp_path / "marker"
    replace("wav.scp", f"{tmp_path}/a-1.wav", f"touch {marker}; cat {tmp_path}/a-1.wav |")(folder)
    told = faults(folder)
    assert len(told) == 1 and told[0].startswith("wav.scp:1: ") and "--allow-pipes" in told[0]
    assert warnings(folder, allow_pipes=True) == ["wav.scp: 1 shell pipes were not run"]
    assert not marker.exists()
    counts, told = data_dir_checks.validate_data_dir(folder, read_audio=True, allow_pipes=True)
    assert counts["audio_seconds"] == 4.0 and told == [] and marker.exists()


@pytest.mark.parametrize("change, told", [
    (write("utt2spk", "a-1 a\na-2 a\nb-1 c\nb-2 c\n"), [
        "utt2spk: 2 of 4 utterance ids do not begin with their speaker id, the first 'b-1' of 'c'"]),
    (write("utt2spk", "a-1 a\na-2 a\nb-1 a\nb-2 a\n"), [
        "utt2spk: 2 of 4 utterance ids do not begin with their speaker id, the first 'b-1' of 'a'",
        "utt2spk: only one speaker"]),
    (write("utt2spk", "a-1 a\na-2 a\nb-1 b\nb-2 b-2\n"), [
        "utt2spk: 2 of 3 speakers have one utterance, the first 'b'"]),
    (write("utt2spk", "a-2 a\na-1 a\nb-1 b\nb-2 b\n"), [
        "utt2spk: not sorted, which Kaldi wants: LC_ALL=C sort utt2spk"]),
    (write("trials", "x a-1\nx a-2\ny z\n"), [
        "trials: 2 of 2 enrolment ids are no utterances here, the first 'x'",
        "trials: 1 of 3 test ids are no utterances here, the first 'z'"]),
    (write("segments", "a-1 a-1 0 0.5\na-2 a-1 0.5 1\nb-1 b-1 0 0.5\nb-2 b-1 0.5 -1\n"), [
        "wav.scp: 2 of 4 recordings have no segment, the first 'a-2'"]),
])
def test_what_is_odd_is_a_warning(folder, change, told):
    change(folder)
    (folder / "spk2utt").unlink()
    assert [text for text in warnings(folder) if "spk2utt" not in text] == told
    assert "spk2utt: no such file; other tools want it" in warnings(folder)


def test_mixed_rates_are_told(folder, tmp_path):
    write_wav(tmp_path / "a-1.wav", rate=8000)
    assert warnings(folder) == ["wav.scp: 2 sample rates: 8000 Hz (1), 16000 Hz (3)"]
    assert "sample_rate" not in data_dir_checks.validate_data_dir(folder)[0]


def test_kaldi_style_whitespace_and_line_ends(folder):
    for name in ("wav.scp", "utt2spk", "spk2utt", "feats.scp", "utt2num_frames"):
        text = (folder / name).read_text().replace(" ", " \t").replace("\n", " \r\n")
        (folder / name).write_text("\ufeff" + text, newline="")
    assert data_dir_checks.validate_data_dir(folder)[0]["num_utterances"] == 4
