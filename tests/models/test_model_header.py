"""What a model says of itself, read without torch."""

import subprocess
import sys

CODE = """
import sys
from speakerkit.models import device, golden, model_header

info = model_header.read_info(sys.argv[1])
device.keep_freed_memory()
print(info.name, len(info.golden), golden.golden_signal(info.fbank.sample_rate).shape, "torch" in sys.modules)
"""


def test_it_is_read_without_torch(make_small_network, tmp_path):
    from speakerkit.config import FbankConfig, ModelConfig
    from speakerkit.models import model_file

    config = ModelConfig(base_channels=4, num_blocks=(1, 1, 1, 1), embedding_dim=16)
    info = model_file.ModelInfo("small", config, FbankConfig(num_mel_bins=24))
    model_file.save_model(tmp_path / "small.safetensors", make_small_network(), info)
    command = [sys.executable, "-c", CODE, str(tmp_path / "small.safetensors")]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert found.stdout == "small 16 (32000,) False\n", found.stderr
