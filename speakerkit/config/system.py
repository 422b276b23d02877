"""TOML to checked sections, and back to plain values."""

import dataclasses
import difflib
import math
import os
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

from speakerkit.config.fbank import FbankConfig
from speakerkit.config.model import ModelConfig
from speakerkit.config.training import AugmentationConfig, LossConfig, TrainingConfig
from speakerkit.errors import ConfigError


@dataclass(frozen=True)
class SystemConfig:
    """A whole system, as one file of `conf/` describes it."""

    fbank: FbankConfig = field(default_factory=FbankConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)


def _checked(value: object, wanted: object, where: str) -> object:
    """One option's value as the type its dataclass names; an int serves as a float, a list as a tuple."""
    if isinstance(wanted, types.UnionType):
        wanted = typing.get_args(wanted)[0]
    origin = typing.get_origin(wanted)
    if origin is tuple:
        inner = typing.get_args(wanted)
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} is {value!r}; want a list")
        if inner[-1] is not Ellipsis and len(value) != len(inner):
            raise ConfigError(f"{where} has {len(value)} values; want {len(inner)}")
        return tuple(_checked(item, inner[0], where) for item in value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**1000 else math.inf
    if type(value) is not wanted:
        raise ConfigError(f"{where} is {value!r}; want {'a number' if wanted in (int, float) else wanted.__name__}")
    if wanted is float and not math.isfinite(value):
        raise ConfigError(f"{where} is {value!r}; want a finite number")
    return value


def make_section(cls: type, values: dict, path: str | os.PathLike, section: str):
    """A section's dataclass from its table.

    Raises:
        ConfigError: unknown option (with the near name), wrong type, value out of range.
    """
    hints = typing.get_type_hints(cls)
    for name in values:
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; it has {', '.join(hints)}"
            raise ConfigError(f"{os.fspath(path)}: [{section}] has no option '{name}'{hint}")
    checked = {
        name: _checked(value, hints[name], f"{os.fspath(path)}: [{section}] {name}") for name, value in values.items()
    }
    try:
        return cls(**checked)
    except ValueError as error:
        raise ConfigError(f"{os.fspath(path)}: [{section}] {error}") from None


def parse_system(tables: dict, path: str | os.PathLike) -> SystemConfig:
    """A whole system from parsed TOML (or from what ``as_dict`` gave); absent sections take their defaults."""
    sections = {f.name: f.type for f in dataclasses.fields(SystemConfig)}
    for name, values in tables.items():
        if name not in sections:
            near = difflib.get_close_matches(name, sections, n=1)
            hint = f"; did you mean [{near[0]}]?" if near else ""
            raise ConfigError(
                f"{os.fspath(path)}: unknown section [{name}]{hint}; want {', '.join(f'[{s}]' for s in sections)}"
            )
        if not isinstance(values, dict):
            raise ConfigError(
                f"{os.fspath(path)}: '{name}' stands outside a section; want {', '.join(f'[{s}]' for s in sections)}"
            )
    return SystemConfig(**{name: make_section(sections[name], values, path, name) for name, values in tables.items()})


def read_system(path: str | os.PathLike) -> SystemConfig:
    """Read `conf/*.toml`.

    Raises:
        ConfigError: no such file, not UTF-8, not TOML, or what ``parse_system`` refuses.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        tables = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"{os.fspath(path)}: no such file; want a configuration such as conf/resnet34.toml") from None
    except OSError as error:
        raise ConfigError(f"{os.fspath(path)}: can't be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{os.fspath(path)}: can't be read: {error}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{os.fspath(path)}: not TOML: {error}") from None
    if not tables:
        raise ConfigError(
            f"{os.fspath(path)}: has no section; want [fbank], [model], [loss], [training] or [augmentation]"
        )
    return parse_system(tables, path)


def as_dict(config) -> dict:
    """A section or a whole system as plain dictionaries, lists, numbers and strings, for JSON."""

    def plain(value):
        if dataclasses.is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    return plain(config)
