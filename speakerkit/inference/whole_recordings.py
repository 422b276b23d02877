"""How much memory a recording takes that a network sees whole, and a refusal where the machine hasn't that much.

CAM++, ECAPA-TDNN and SpeechBrain's ResNet weigh every step by means over the whole recording, so it can't be cut.
Measured on a CPU as the growth of the resident set from 30 to 90 s: CAM++ 2.9 (ONNX Runtime) to 5.6 (torch float32) MB
a second, ECAPA-TDNN of 1024 channels 3.5 (ONNX Runtime) to 13.5 (OpenVINO bfloat16). The largest of each stands here.
"""

from pathlib import Path

from speakerkit.config import ModelConfig
from speakerkit.errors import RecordingError

# MB (2**20 bytes) for each second of audio, at so many channels
MB_A_SECOND = {"campplus": (6.0, 32), "ecapa": (14.0, 1024), "ecapa_speechbrain": (14.0, 1024)}
OTHERS = (20.0, 32)  # not measured: four activations of a bottleneck's 128 channels, 80 bins and 100 frames


def memory_needed(config: ModelConfig, seconds: float) -> float:
    """MB that a recording of this length may take."""
    per_second, channels = MB_A_SECOND.get(config.architecture, OTHERS)
    return per_second * seconds * config.base_channels / channels


def memory_available() -> float | None:
    """MB that the machine can give without swapping, as Linux says it; None elsewhere."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None


def check_room(config: ModelConfig, seconds: float) -> None:
    """Refuse what the system would end the process for.

    Raises:
        RecordingError: too-long; its path is "samples".
    """
    needed, available = memory_needed(config, seconds), memory_available()
    if available is not None and needed > available:
        raise RecordingError("samples", "too-long",
                             f"{seconds:.0f} s; {config.architecture} sees a recording whole and may take "
                             f"{needed / 1024:.1f} GB of memory for it, {available / 1024:.1f} GB are there; want a "
                             "part of it (--segments), or a ResNet or ERes2Net, which take any length")
