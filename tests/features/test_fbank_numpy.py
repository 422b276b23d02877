"""The filterbank without torch: compute_fbank's numbers for every option of Kaldi's."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from speakerkit.config import FbankConfig
from speakerkit.features.fbank import compute_fbank
from speakerkit.features.fbank_numpy import FRAMES, compute_framed_fbank

OPTIONS = [
    {},
    {"window_type": "hamming", "waveform_scale": 1.0, "num_mel_bins": 40},
    {"window_type": "sine", "num_mel_bins": 3, "low_freq": 0.0},
    {"use_energy": True, "energy_floor": 1.0},
    {"use_energy": True, "energy_floor": 1e8},
    {"use_energy": True, "raw_energy": False, "htk_compat": True, "remove_dc_offset": False},
    {"use_power": False, "preemphasis": 0.0},
    {"use_log_fbank": False, "waveform_scale": 1.0, "window_type": "blackman"},
    {"round_to_power_of_two": False, "frame_length_ms": 20.0},
    {"sample_rate": 8000, "frame_shift_ms": 12.5, "high_freq": -200.0},
    {"frame_length_ms": 10.0, "frame_shift_ms": 15.0, "num_mel_bins": 23},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options) or "default")
def test_it_is_compute_fbank(speech_files, options):
    config = FbankConfig(**options)
    speech = [soundfile.read(paths[0], dtype="float32", frames=40000 + 111 * n)[0]
              for n, paths in enumerate(list(speech_files.values())[:3])]
    whole = (FRAMES - 1) * config.frame_shift + config.frame_length  # one block, and then a frame more
    cut = [speech[0][5000 : 5000 + n] for n in (config.frame_length, whole, whole + config.frame_shift)]
    for samples in [*speech, *cut, np.zeros(3000, np.float32)]:
        ours = compute_framed_fbank(samples, config)
        plain = compute_fbank(torch.from_numpy(samples), config).numpy()
        assert ours.shape == plain.shape and ours.dtype == np.float32
        error = np.abs(ours - plain)
        # Two FFTs in float32 differ where a bin holds a millionth of its frame's loudest.
        scale = max(1.0, plain.max() / 20)  # energies as they are, not their logarithms, are large numbers
        assert error.max() < 0.05 * scale and error.mean() < 2e-5 * scale


def test_what_is_not_finite_stays_so():
    samples = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    samples[4000] = np.nan
    bad = ~np.isfinite(compute_framed_fbank(samples, FbankConfig())).all(axis=1)
    seen = [160 * n <= 4000 < 160 * n + 400 for n in range(48)]
    assert bad.tolist() == seen


def test_it_needs_no_torch():
    program = ("import sys; from speakerkit.config import FbankConfig; import numpy as np\n"
               "from speakerkit.features.fbank_numpy import compute_framed_fbank\n"
               "compute_framed_fbank(np.zeros(400, np.float32), FbankConfig()); sys.exit('torch' in sys.modules)")
    subprocess.run([sys.executable, "-c", program], check=True)
