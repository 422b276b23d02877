"""make-fbank as installed."""

import json

import kaldiio
import numpy as np
import soundfile

CONFIG = """\
[fbank]
num_mel_bins = 40
window_type = "hamming"

[model]
base_channels = 4
"""


def test_from_wav_scp_to_features(run_command, tmp_path):
    """One run through the door: the configuration's [fbank], two workers, relative paths, --json, --quiet."""
    (tmp_path / "data").mkdir()
    for number in range(4):
        samples = 0.1 * np.random.default_rng(number).standard_normal(16000)
        soundfile.write(tmp_path / f"data/{number}.wav", samples, 16000)
    (tmp_path / "data/wav.scp").write_text("".join(f"说话人-{number} {number}.wav\n" for number in range(4)))
    (tmp_path / "system.toml").write_text(CONFIG)
    ended = run_command("make-fbank", "--config", "system.toml", "--nj", 2, "--json", "out.json", "--quiet", "data",
                        cwd=tmp_path, env={"LC_ALL": "C"})
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    features = kaldiio.load_scp(str(tmp_path / "data/feats.scp"))
    assert {key: matrix.shape for key, matrix in features.items()} == {f"说话人-{n}": (98, 40) for n in range(4)}
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["status"] == "ok" and report["num_frames"] == 4 * 98 and report["audio_seconds"] == 4.0


def test_a_wrong_option_names_the_near_one(run_command, tmp_path):
    (tmp_path / "system.toml").write_text("[fbank]\nnum_mels = 40\n")
    ended = run_command("make-fbank", "--config", tmp_path / "system.toml", tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == (f"make-fbank: {tmp_path}/system.toml: [fbank] has no option 'num_mels'; "
                            "did you mean 'num_mel_bins'?\n")
