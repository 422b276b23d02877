"""What a recipe says it will cost."""

import expect_cost
import pytest


@pytest.mark.parametrize("features, gigabytes", [("stored", 144.0), ("compressed", 36.0), ("fly", 0.0)])
def test_disk_space_of_features(features, gigabytes):
    # 416.667 hours = 1.5 million s; at 3 speeds, 100 frames a second of 80 float32: 1.5e6 * 3 * 100 * 80 * 4 bytes
    assert expect_cost.features_bytes(1.5e6, 80, 3, features) == pytest.approx(gigabytes * 1e9)


@pytest.mark.parametrize("seconds, words", [
    (60, "60 seconds"), (600, "10 minutes"), (7200, "2 hours"), (8e6, "93 days")])
def test_durations_in_words(seconds, words):
    assert expect_cost.in_words(seconds) == words


def test_speech_of_meetings(tmp_path, lay_out_meeting, tiny_config, capsys):
    for meeting in range(3):
        lay_out_meeting(tmp_path, "Train", f"R0001_M000{meeting}", {"F_SPK0001": [(0, 9)], "M_SPK0002": [(5, 9)]})
    # 3 meetings of 20 s in 2 fields are 2 minutes: 426 utterances an hour make 14.
    assert expect_cost.meeting_speech(tmp_path) == (14, pytest.approx(0.59 * 120))
    arguments = ["--config", str(tiny_config), "--train-sets", "none", "--alimeeting-dir"]
    assert expect_cost.main([*arguments, str(tmp_path), "nowhere", str(tmp_path)]) == 0
    assert "14 utterances, about 0.0 hours" in capsys.readouterr().err
    assert expect_cost.main([*arguments, str(tmp_path / "no"), "nowhere", str(tmp_path)]) == 1
    assert "no: holds neither Train_Ali_far nor Train_Ali_near with recordings in audio_dir; --corpus-dir names" in (
        capsys.readouterr().err)


def test_a_missing_configuration_is_a_wrong_command_line(tmp_path, capsys):
    assert expect_cost.main(["--config", str(tmp_path / "no.toml"), str(tmp_path), str(tmp_path)]) == 2
    assert "no.toml: no such file" in capsys.readouterr().err
