import pytest

from speakerkit.config import LossConfig, TrainingConfig
from speakerkit.training.schedules import learning_rate, margin


def config(**options):
    return TrainingConfig(learning_rate=0.1, final_learning_rate=0.001, **options)


@pytest.mark.parametrize("schedule, middle", [("exponential", 0.01), ("cosine", 0.0505), ("constant", 0.1)])
def test_half_way(schedule, middle):
    assert learning_rate(0.5, config(schedule=schedule, warmup=0.1)) == pytest.approx(middle)


def test_ends():
    for schedule, end in (("exponential", 0.001), ("cosine", 0.001), ("constant", 0.1)):
        chosen = config(schedule=schedule, warmup=0.0)
        assert learning_rate(0.0, chosen) == pytest.approx(0.1)
        assert learning_rate(1.0, chosen) == pytest.approx(end)


def test_warm_up_is_linear_and_starts_at_zero():
    chosen = config(schedule="constant", warmup=0.2)
    assert [learning_rate(p, chosen) for p in (0.0, 0.05, 0.1, 0.2)] == pytest.approx([0.0, 0.025, 0.05, 0.1])


def test_margin_waits_rises_and_stays():
    chosen = LossConfig(margin=0.2, margin_start=0.2, margin_end=0.6)
    assert margin(0.1, chosen) == 0.0 == margin(0.2, chosen)
    # half way between: 0.2 * (1 - 0.001^0.5)
    assert margin(0.4, chosen) == pytest.approx(0.2 * (1 - 0.001**0.5))
    assert margin(0.6, chosen) == 0.2 == margin(1.0, chosen)
    rising = [margin(0.2 + 0.4 * k / 50, chosen) for k in range(51)]
    assert rising == sorted(rising)


def test_margin_is_whole_from_the_start_without_a_schedule():
    assert margin(0.0, LossConfig(margin=0.25)) == 0.25
