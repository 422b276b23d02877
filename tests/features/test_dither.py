"""Dither is normal noise, whatever draws it."""

import numpy as np
import pytest
import torch

from speakerkit.config import FbankConfig
from speakerkit.features.dither import LEVELS, draw_dither, normal_levels
from speakerkit.features.fbank import compute_fbank

CPU = torch.device("cpu")


@pytest.mark.parametrize("generator", [[np.random.default_rng(1)], torch.Generator().manual_seed(1)],
                         ids=["numpy", "torch"])
def test_noise_is_normal(generator):
    noise = draw_dither(torch.Size([1, 1000, 400]), generator, CPU).double()
    count = noise.numel()
    assert noise.shape == (1, 1000, 400)
    assert abs(noise.mean()) < 5 / count ** 0.5
    assert noise.var().item() == pytest.approx(1.0, abs=5 * (2 / count) ** 0.5)
    assert abs((noise ** 3).mean()) < 5 * (15 / count) ** 0.5
    assert (noise ** 4).mean().item() == pytest.approx(3.0, abs=5 * (96 / count) ** 0.5)
    for limit in (0.5, 1.0, 2.0, 3.0):  # shares inside, of the normal distribution
        inside = torch.special.erf(torch.tensor(limit / 2 ** 0.5)).item()
        assert (noise.abs() < limit).double().mean().item() == pytest.approx(
            inside, abs=5 * (inside * (1 - inside) / count) ** 0.5)
    assert abs((noise[..., 1:] * noise[..., :-1]).mean()) < 5 / count ** 0.5  # neighbours in a frame
    assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < 5 / count ** 0.5  # and in the next frame


def test_levels_are_a_normals_to_the_fourth_moment():
    levels = normal_levels().double()
    assert len(levels) == LEVELS and (levels.diff() > 0).all()
    torch.testing.assert_close(levels, -levels.flip(0), rtol=0, atol=1e-6)
    assert levels.square().mean().item() == pytest.approx(1.0, abs=1e-6)
    assert (levels ** 4).mean().item() == pytest.approx(3.0, abs=0.01)
    assert 4.2 < levels[-1] < 4.4


def test_an_utterances_noise_is_its_own():
    both = draw_dither(torch.Size([2, 7, 401]), [np.random.default_rng(1), np.random.default_rng(2)], CPU)
    alone = draw_dither(torch.Size([1, 7, 401]), [np.random.default_rng(2)], CPU)
    assert torch.equal(both[1], alone[0]) and not torch.equal(both[0], both[1])
    with pytest.raises(ValueError, match=r"1 generators for frames of shape \(2, 7, 401\); want one an utterance"):
        draw_dither(torch.Size([2, 7, 401]), [np.random.default_rng(1)], CPU)


def plain_fbank(samples, config, noise):
    """A frame at a time, in float64, as the module's docstring says it."""
    from speakerkit.features.framing import EPSILON, frame_window, mel_filters

    window, filters, rows = frame_window(config), mel_filters(config), []
    for number, frame_noise in enumerate(noise):
        start = number * config.frame_shift
        frame = 32768.0 * samples[start:start + config.frame_length] + config.dither * frame_noise
        frame = frame - frame.mean()
        frame = (frame - config.preemphasis * np.concatenate([frame[:1], frame[:-1]])) * window
        power = np.abs(np.fft.rfft(frame, config.fft_length)) ** 2
        rows.append(np.log(np.maximum(power @ filters, EPSILON)))
    return np.stack(rows)


@pytest.mark.parametrize("options", [{}, {"window_type": "hamming", "num_mel_bins": 23}, {"preemphasis": 0.0}])
def test_a_dithered_batch_is_the_plain_sum_frame_by_frame(options):
    config = FbankConfig(dither=1.0, **options)
    samples = (0.1 * np.random.default_rng(3).standard_normal((3, 8000))).astype(np.float32)
    samples[1] *= 1e-4  # a few 16-bit steps: dither matters
    generators = [np.random.default_rng(n) for n in range(3)]
    features = compute_fbank(torch.from_numpy(samples), config, generator=generators)
    for n in range(3):
        noise = draw_dither(torch.Size([1, features.shape[1], 400]), [np.random.default_rng(n)], CPU)[0]
        np.testing.assert_allclose(features[n], plain_fbank(samples[n].astype(float), config, noise.double().numpy()),
                                   rtol=0, atol=2e-3)
