import json

import pytest

from speakerkit.cli import validate_data


@pytest.fixture
def folder(tmp_path, speech_wav_scp):
    speech_wav_scp(tmp_path / "data", speakers=3, recordings=2)
    return tmp_path / "data"


def test_counts_of_real_speech(folder, run_command):
    result = run_command("validate-data", folder, "--read-audio", "--json", folder / "out.json")
    assert result.returncode == 0, result.stderr
    printed = dict(line.split() for line in result.stdout.splitlines())
    assert list(printed) == ["num_recordings", "num_utterances", "num_speakers", "audio_seconds", "sample_rate"]
    assert (printed["num_utterances"], printed["num_speakers"], printed["sample_rate"]) == ("6", "3", "16000")
    assert float(printed["audio_seconds"]) > 6
    assert result.stderr == "validate-data: warning: spk2utt: no such file; other tools want it\n"
    report = json.loads((folder / "out.json").read_text())
    assert report["status"] == "ok" and report["exit_code"] == 0
    assert (report["num_speakers"], report["num_faults"], report["num_warnings"]) == (3, 0, 1)


def test_as_a_verb_of_the_umbrella_command(folder, run_command):
    assert run_command("speakerkit", "validate-data", folder).stdout.startswith("num_recordings 6\n")


def test_faults_are_told_line_by_line_at_most_ten(folder, capsys):
    lines = [f"x{index} /nowhere/{index}.wav\n" for index in range(12)]
    (folder / "wav.scp").write_text("".join(lines))
    (folder / "utt2spk").write_text("".join(f"x{index} x{index % 2}\n" for index in range(12)))
    assert validate_data.main([str(folder), "--json", str(folder / "out.json")]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[0] == (
        f"validate-data: {folder}/wav.scp:1: /nowhere/0.wav: missing: no such file")
    assert len(told.err.splitlines()) == 11 and told.err.splitlines()[-1] == "validate-data: ... and 2 more"
    report = json.loads((folder / "out.json").read_text())
    assert (report["status"], report["exit_code"], report["num_faults"]) == ("bad-data", 1, 12)


def test_no_such_folder(tmp_path, capsys):
    assert validate_data.main([str(tmp_path / "nope")]) == 1
    assert capsys.readouterr().err == f"validate-data: {tmp_path}/nope: no such folder; wanted a data directory\n"
    assert list(tmp_path.iterdir()) == []  # Kaldi's fix_data_dir.sh makes the folder


@pytest.mark.parametrize("args", [[], ["a", "b"], ["data", "--read"], ["data", "--max-bad", "3"]])
def test_a_wrong_command_line(args, capsys):
    assert validate_data.main(args) == 2
    assert "hint: validate-data --help" in capsys.readouterr().err


def test_a_pipe_is_refused(folder, capsys):
    text = (folder / "wav.scp").read_text().splitlines()
    key, path = text[0].split(" ", 1)
    (folder / "wav.scp").write_text("\n".join([f"{key} touch {folder}/marker; cat {path} |", *text[1:]]) + "\n")
    assert validate_data.main([str(folder)]) == 1
    assert f"{folder}/wav.scp:1: " in (told := capsys.readouterr().err) and "--allow-pipes" in told
    assert not (folder / "marker").exists()
    assert validate_data.main([str(folder), "--allow-pipes", "--read-audio"]) == 0
    assert (folder / "marker").exists()


def test_audio_options_reach_the_recordings(folder, capsys):
    assert validate_data.main([str(folder), "--min-duration", "1000"]) == 1
    assert "too-short" in capsys.readouterr().err


def test_quiet_keeps_warnings_and_counts(folder, capsys):
    assert validate_data.main([str(folder), "--quiet"]) == 0
    told = capsys.readouterr()
    assert "num_recordings 6" in told.out and "warning: spk2utt" in told.err
