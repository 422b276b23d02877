"""speakerkit: speaker verification in the Kaldi recipe style.

>>> import speakerkit
>>> model = speakerkit.load_model()
>>> embedding = model.embed("a.wav")
>>> answer = model.verify("a.wav", "b.wav")  # answer.cosine, .decision, .warnings, ...

The names below are loaded when they are first used: every command imports this module.
"""

__version__ = "0.1.0"
__all__ = ["BatchError", "ConfigError", "DataError", "DataErrors", "Identification", "MachineError", "Model",
           "RecordingError", "Verification", "Voiceprints", "fetch_url", "forget_models", "load_model"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'speakerkit' has no attribute {name!r}")
    import importlib

    room = "errors" if "Error" in name else "api"
    return getattr(importlib.import_module(f"speakerkit.{room}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
