import pytest

from speakerkit.config import TrainingConfig
from speakerkit.training.progress import COLUMNS, TrainingTable, describe


def row(step, samples_per_s, **others):
    plain = (name for name in COLUMNS if name not in ("eer_percent", "likeness"))
    return dict.fromkeys(plain, 0.5) | {"step": step, "samples_per_s": samples_per_s} | others


def test_table_is_kept_cut_and_continued(tmp_path):
    table = TrainingTable(tmp_path / "train_log.tsv")
    for step in (10, 20, 30):
        table.add(row(step, 4.0))
    table.add(row(33, 4.0, eer_percent=12.5))
    resumed = TrainingTable(tmp_path / "train_log.tsv")
    resumed.cut_after(20)
    resumed.add(row(30, 4.0, eer_percent=11.0))
    again = TrainingTable(tmp_path / "train_log.tsv")
    assert [int(r["step"]) for r in again.rows] == [10, 20, 30]
    assert again.columns("eer_percent") == ([30.0], [11.0])


def test_seconds_are_those_of_the_steps(tmp_path):
    table = TrainingTable(tmp_path / "train_log.tsv")
    table.add(row(10, 2.0))  # 10 steps of 8 at 2 a second: 40 s
    table.add(row(15, 100.0))  # a validation between two reports says nothing of time
    table.add(row(20, 4.0))  # 10 steps of 8 at 4 a second: 20 s
    table.add(row(22, 16.0))  # the last: 2 steps of 8 at 16 a second: 1 s
    assert table.seconds(TrainingConfig(batch_size=8, log_interval=10)) == pytest.approx(61.0)


def test_a_line_of_the_log_has_what_a_person_asks_for():
    told = describe(row(1200, 27.7, loss=3.25, accuracy=0.5, waiting=0.01, margin=0.2, epoch=7.5), 3720.0)
    for part in ("step 1,200", "epoch 7.50", "loss 3.2500", "accuracy 50.0 %", "27.7 samples/s", "1:02 h left"):
        assert part in told
