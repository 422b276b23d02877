"""One TOML file configures a whole system: its sections as frozen dataclasses that judge themselves.

A misspelt option, a wrong type or an impossible value is a ConfigError that names the file, the
section, the value and the near name; nothing is ignored.
"""

from speakerkit.config.fbank import SPEECHBRAIN_FBANK, FbankConfig
from speakerkit.config.model import ARCHITECTURES, ModelConfig
from speakerkit.config.system import SystemConfig, as_dict, make_section, parse_system, read_system
from speakerkit.config.training import AugmentationConfig, LossConfig, TrainingConfig

__all__ = ["ARCHITECTURES", "SPEECHBRAIN_FBANK", "AugmentationConfig", "FbankConfig", "LossConfig", "ModelConfig",
           "SystemConfig", "TrainingConfig", "as_dict", "make_section", "parse_system", "read_system"]
