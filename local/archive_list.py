"""What a corpus is published as: archives, their parts, where they are and what checksums they have."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from speakerkit.errors import ConfigError

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Part:
    """One published file: where it is, and what is known of it."""

    name: str
    urls: tuple[str, ...]
    num_bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Archive:
    """An archive that its parts give when they are joined, and the folder it unpacks to."""

    name: str
    parts: tuple[Part, ...]
    folder: str | None = None
    num_bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None
    download: bool = True      # False: is unpacked where somebody has it, never fetched

    @property
    def expected_bytes(self) -> int | None:
        """Of the whole, as far as it is known."""
        sizes = [part.num_bytes for part in self.parts]
        return self.num_bytes if self.num_bytes is not None or None in sizes else sum(sizes)


_KEYS = {"name": str, "url": str, "folder": str, "bytes": int, "md5": str, "sha256": str, "download": bool,
         "parts": list}


def read_archives(path: str, mirror: str | None = None) -> list[Archive]:
    """The archives of a description.

    Args:
        path: a TOML file, as --help shows it.
        mirror: a folder's address that is tried before the description's own.

    Raises:
        ConfigError: it can't be read, has a key that isn't known, or says not where a part is.
    """
    import tomllib

    try:
        with open(path, "rb") as stream:
            text = tomllib.load(stream)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    odd = sorted(set(text) - {"mirrors", "archive"})
    tables, mirrors = text.get("archive"), text.get("mirrors", [])
    if odd or not isinstance(tables, list) or not isinstance(mirrors, list):
        raise ConfigError(f"{path}: {f'no option {odd[0]!r} is known' if odd else 'names no archive'}; "
                          "wanted mirrors = [...] and [[archive]]")
    mirrors = ([mirror] if mirror else []) + [str(url) for url in mirrors]
    return [_read_archive(path, table, mirrors) for table in tables]


def _read_archive(path: str, table: dict, mirrors: list[str]) -> Archive:
    values = _checked(path, table)
    own = {key: value for key, value in table.items() if key not in ("parts", "folder", "download")}
    parts = tuple(_read_part(path, part, mirrors) for part in values.pop("parts", None) or [own])
    values.pop("url", None)
    return Archive(parts=parts, **values)


def _read_part(path: str, table: dict, mirrors: list[str]) -> Part:
    values = _checked(path, table)
    url = values.pop("url", None)
    urls = ([url] if url else []) + [mirror.rstrip("/") + "/" + values["name"] for mirror in mirrors]
    if not urls:
        raise ConfigError(f"{path}: '{values['name']}' has no url, and there are no mirrors")
    return Part(urls=tuple(dict.fromkeys(urls)), **values)


def _checked(path: str, table: dict) -> dict:
    for key, value in table.items():
        if not isinstance(value, _KEYS.get(key, ())):
            raise ConfigError(f"{path}: [[archive]] {key} is {value!r}; known are {', '.join(_KEYS)}")
    for key in ("name", "folder"):
        name = table.get(key, "x" if key == "folder" else "")
        if name in ("", ".", "..") or "/" in name or name.startswith("."):
            raise ConfigError(f"{path}: [[archive]] {key} is {name!r}; wanted a name without folders")
    return {"num_bytes" if key == "bytes" else key: value for key, value in table.items()}


def hash_stream(stream: BinaryIO, begin: int, names: Sequence[str]) -> dict[str, str]:
    """Hexadecimal digests of everything from a place on."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    stream.seek(begin)
    while chunk := stream.read(_CHUNK):
        for digest in digests.values():
            digest.update(chunk)
    return {name: digest.hexdigest() for name, digest in digests.items()}


def published_digests(item: Part | Archive) -> dict[str, str]:
    """The checksums that a part or an archive must have: name of the algorithm -> hexadecimal."""
    return {name: getattr(item, name).lower() for name in ("md5", "sha256") if getattr(item, name)}


def what_differs(item: Part | Archive, num_bytes: int, digests: dict[str, str]) -> str | None:
    """How a file differs from what is published of it, or None."""
    if item.num_bytes not in (None, num_bytes):
        return f"has {num_bytes:,} bytes; published: {item.num_bytes:,}"
    for name, published in published_digests(item).items():
        if digests[name] != published:
            return f"has the {name.upper()} {digests[name]}; published: {published}"
    return None
