"""Which checkpoint and configuration a folder of a hub or a trainer stands for."""

import pytest

from speakerkit.errors import ConfigError, DataError
from speakerkit.models.published.locate import configs_beside, find_checkpoint, snapshot_of


@pytest.fixture
def make_folder(tmp_path):
    def make(*names: str):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        return tmp_path

    return make


@pytest.mark.parametrize("names, wanted", [
    (("avg_model.pt", "config.yaml", "README.md"), "avg_model.pt"),
    (("models/avg_model.pt", "models/model_5.pt", "models/final_model.pt", "config.yaml"), "models/avg_model.pt"),
    (("embedding_model.ckpt", "classifier.ckpt", "mean_var_norm_emb.ckpt", "x.txt"), "embedding_model.ckpt"),
    (("sv.pb", "sv.yaml", "am.mvn"), "sv.pb"),
    (("models/CKPT-EPOCH-3-00/embedding_model.ckpt", "models/CKPT-EPOCH-3-00/classifier.ckpt"),
     "models/CKPT-EPOCH-3-00/embedding_model.ckpt"),
    (("save/CKPT+2024-01-02+00/embedding_model.ckpt", "save/CKPT+2024-01-02+00/optimizer.ckpt"),
     "save/CKPT+2024-01-02+00/embedding_model.ckpt"),
    (("campplus_cn_common.bin", "training_args.bin", "optimizer.pt", "examples/a.wav"), "campplus_cn_common.bin"),
    (("model.safetensors", "ours.safetensors", "ours.safetensors.manifest.json"), "model.safetensors"),
])
def test_the_one_that_is_meant(make_folder, names, wanted):
    folder = make_folder(*names)
    assert find_checkpoint(folder) == str(folder / wanted)


def test_what_a_configuration_names(make_folder):
    folder = make_folder("a.bin", "b.bin", *(f"models/CKPT-EPOCH-{n}-00/embedding_model.ckpt" for n in (2, 10, 100)))
    assert find_checkpoint(folder, named="b.bin") == str(folder / "b.bin")
    assert find_checkpoint(folder, epoch=10) == str(folder / "models/CKPT-EPOCH-10-00/embedding_model.ckpt")
    for name in ("c.bin", "../b.bin", "/etc/passwd"):
        with pytest.raises(DataError, match="its configuration names the checkpoint '.*', which isn't there"):
            find_checkpoint(folder, named=name)


@pytest.mark.parametrize("names, message", [
    (("models/model_5.pt", "models/model_10.pt"),
     r"holds 2 checkpoints: models/model_10\.pt, models/model_5\.pt; name one of them"),
    (tuple(f"models/model_{n:02d}.pt" for n in range(12)), r"holds 12 checkpoints: .*model_07\.pt and 4 more; name"),
    (("avg_model.pt", "models/avg_model.pt"), r"holds 2 checkpoints: avg_model\.pt, models/avg_model\.pt"),
    (("models/CKPT-EPOCH-1-00/embedding_model.ckpt", "models/CKPT-EPOCH-2-00/embedding_model.ckpt"), "holds 2 check"),
])
def test_several(make_folder, names, message):
    with pytest.raises(ConfigError, match=message):
        find_checkpoint(make_folder(*names))


def test_none(make_folder):
    with pytest.raises(DataError, match="holds no checkpoint; want a folder with e.g. avg_model.pt"):
        find_checkpoint(make_folder("README.md", "classifier.ckpt"))


def test_a_cache_of_snapshots(make_folder):
    folder = make_folder("snapshots/abc/avg_model.pt", "refs/main")
    assert snapshot_of(folder) == str(folder / "snapshots/abc")
    assert snapshot_of(folder / "refs") == str(folder / "refs")
    with pytest.raises(ConfigError, match="holds 2 snapshots; name one of the folders under snapshots"):
        snapshot_of(make_folder("snapshots/def/avg_model.pt"))


def test_configurations_beside(make_folder):
    folder = make_folder("a/config.yaml", "a/models/avg_model.pt", "a/models/CKPT-EPOCH-1-00/embedding_model.ckpt",
                         "a/models/CKPT-EPOCH-1-00/CKPT.yaml", "a/b/x.pt", "sv.yaml")
    for name in ("a/models/avg_model.pt", "a/models/CKPT-EPOCH-1-00/embedding_model.ckpt"):
        assert configs_beside(folder / name) == [str(folder / "a/config.yaml")]
    assert configs_beside(folder / "a/b/x.pt") == []
    assert configs_beside(folder / "a.pt") == [str(folder / "sv.yaml")]
