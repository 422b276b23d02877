"""Packed recordings: the same batches as their own files give, and no silence about shards that don't fit."""

import numpy as np
import pack_audio
import pytest
import soundfile
import torch

from speakerkit.config import AugmentationConfig, FbankConfig, SystemConfig, TrainingConfig
from speakerkit.errors import DataError, RecordingError
from speakerkit.io import audio, packed
from speakerkit.io.bad_recordings import BadRecordings
from speakerkit.training import setup
from speakerkit.training.chunks import TrainingBatches
from speakerkit.training.sampling import BatchSampler

SYSTEM = SystemConfig(
    fbank=FbankConfig(num_mel_bins=24), training=TrainingConfig(batch_size=6, chunk_frames=60),
    augmentation=AugmentationConfig(speeds=(0.9, 1.0), noise=0.5, babble=0.5, reverberation=0.5))


def batches(folder):
    chunks = setup.make_chunks(folder, SYSTEM, audio.AudioOptions(), BadRecordings("x"), False)
    return chunks, TrainingBatches(chunks, BatchSampler(chunks.labels, 6, "uniform", seed=1), mean_norm=True)


@pytest.fixture
def train_dir(tmp_path, speech_wav_scp):
    speech_wav_scp(tmp_path / "train", speakers=3, recordings=3)
    return tmp_path / "train"


def test_batches_are_those_of_the_files_to_the_last_bit(train_dir):
    _, plain = batches(train_dir)
    before = [plain[step] for step in range(4)]
    assert pack_audio.main(["--quiet", "--shard-mb", "1", str(train_dir)]) == 0
    chunks, packs = batches(train_dir)
    assert all(isinstance(recording.place, packed.Packed) for recording in chunks.recordings)
    for step in range(4):
        now = packs[step]
        assert torch.equal(now[0], before[step][0]) and torch.equal(now[1], before[step][1])


def test_it_is_packed_once_and_again_when_told(train_dir, capsys):
    assert pack_audio.main([str(train_dir)]) == 0
    assert "9 recordings packed, 0 can't be read" in capsys.readouterr().err
    assert pack_audio.main([str(train_dir)]) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert pack_audio.main(["--shard-mb", "1", str(train_dir)]) == 2
    assert "give --overwrite" in capsys.readouterr().err
    assert pack_audio.main(["--shard-mb", "1", "--overwrite", str(train_dir)]) == 0
    batches(train_dir)[1].batch(0)


def write(folder, name, samples, **options):
    soundfile.write(folder / name, samples, options.pop("rate", 16000), **options)
    return f"{name[0]}-1 {folder / name}\n"


def test_channels_rates_and_floats_are_kept_and_what_cannot_be_read_is_told(tmp_path, capsys):
    draw = np.random.default_rng(1)
    sixteen = draw.integers(-32768, 32768, (4000, 2)).astype(np.int16)
    exact = 0.1 * draw.standard_normal(5000).astype(np.float32)
    lines = [write(tmp_path, "a.wav", sixteen, rate=8000, subtype="PCM_16"),
             write(tmp_path, "b.wav", exact, subtype="FLOAT"), f"c-1 {tmp_path}/gone.wav\n", "d-1 cat x.wav |\n"]
    (tmp_path / "wav.scp").write_text("".join(lines))
    assert pack_audio.main([str(tmp_path)]) == 0
    told = capsys.readouterr().err
    assert "2 recordings packed, 2 can't be read" in told and "gone.wav: missing" in told and "pipe-refused" in told
    found = packed.read_packed(tmp_path)
    assert [(p.sample_rate, p.num_channels, p.type) for p in found.values()] == [(8000, 2, "int16"),
                                                                              (16000, 1, "float32")]
    for channel in (0, 1, "mix"):
        np.testing.assert_array_equal(found["a-1"].read(100, 700, channel),
                                      audio.read_chunk(tmp_path / "a.wav", 100, 700, channel))
    np.testing.assert_array_equal(found["b-1"].read(4000, 1000), exact[4000:])
    with pytest.raises(RecordingError, match="channel-not-chosen: 2 channels"):
        found["a-1"].read(0, 10)
    with pytest.raises(RecordingError, match="truncated: 10 samples from 4995 on wanted of 'b-1', 5 there"):
        found["b-1"].read(4995, 10)


def test_another_wav_scp_is_refused(train_dir):
    pack_audio.main(["--quiet", str(train_dir)])
    with open(train_dir / "wav.scp", "a") as stream:
        stream.write("zz-1 /nowhere.wav\n")
    with pytest.raises(DataError, match="packed.scp: wav.scp has changed since; pack it again"):
        batches(train_dir)


@pytest.mark.parametrize("damage, message", [
    (lambda shard: shard.write_bytes(shard.read_bytes()[:-10]), "truncated: '.*' ends beyond its"),
    (lambda shard: shard.write_bytes(b"x" + shard.read_bytes()[:-1]), "unreadable: offset .* doesn't hold"),
    (lambda shard: shard.unlink(), "missing: no such file"),
])
def test_shards_that_do_not_fit_their_list_are_refused(train_dir, damage, message):
    pack_audio.main(["--quiet", str(train_dir)])
    packed._descriptor.cache_clear()
    damage(train_dir / "packed" / "shard-00001")
    with pytest.raises(DataError, match=message):
        batches(train_dir)


@pytest.mark.parametrize("line", ["a-1 shard 1 1 16000 int16", "a-1 s:9 1 1 16000 int8", "a-1 s:9 0 1 16000 int16",
                                  "a-1 s:9 1 1 int16", "a-1 s:x 1 1 16000 int16"])
def test_a_faulty_line_is_told_by_its_place(train_dir, line, monkeypatch):
    pack_audio.main(["--quiet", str(train_dir)])
    (train_dir / packed.NAME).write_text(line + "\n")
    with pytest.raises(DataError, match=r"packed.scp:1: .*wanted '<rec-id> <shard>:<offset>"):
        packed.read_packed(train_dir)


def test_nothing_to_pack_is_an_error(tmp_path, capsys):
    (tmp_path / "wav.scp").write_text(f"a-1 {tmp_path}/gone.wav\n")
    assert pack_audio.main(["--quiet", str(tmp_path)]) == 1
    assert "wav.scp: no recording could be packed" in capsys.readouterr().err
    assert not (tmp_path / packed.NAME).exists()
