"""One file over HTTP, going on where an earlier attempt broke off; what came is checked by whoever called.

A server that can't send a part of a file, or whose file has changed since, sends it from its start:
then what was there before is dropped, never appended to.
"""

import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from speakerkit import __version__

TIMEOUT_S = 60.0     # without a byte
_CHUNK = 1 << 18
_MAY_PASS = (408, 425, 429, 500, 502, 503, 504)  # HTTP codes after which another attempt may do


class Interrupted(Exception):
    """The transfer broke off; what came is kept and another attempt may go on."""


class Refused(Exception):
    """This server doesn't have the file that is wanted."""


@dataclass(frozen=True)
class Version:
    """Which state of which file on a server the bytes so far are of; equal versions can be joined."""

    url: str = ""
    validator: str = ""        # a strong ETag or a date of change; empty: the server gives none
    total: int | None = None   # bytes of the whole file


def continue_download(url: str, stream: BinaryIO, begin: int, known: Version, num_bytes: int | None,
                      note: Callable[[Version], None], progress: Callable[[int], None] = lambda size: None,
                      timeout_s: float = TIMEOUT_S) -> None:
    """Append what is missing of a remote file.

    Args:
        url: http or https.
        stream: a file open for reading and writing; from `begin` to its end lies the start of the remote file.
        begin: where in the stream the remote file starts.
        known: of the bytes that are there.
        num_bytes: what the remote file must have; None if nobody has said.
        note: is told the version before its first byte is written, to be known to a later attempt.
        progress: called with the number of bytes from `begin` on that are there.

    Raises:
        Interrupted: cut, timed out, busy.
        Refused: not there, not allowed, of another size.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise Refused("is no http or https address")
    start = stream.seek(0, 2) - begin
    if start and start == (num_bytes if num_bytes is not None else known.total):
        return
    try:
        with urllib.request.urlopen(_request(url, start, known), timeout=timeout_s) as response:  # noqa: S310
            start, version = _judge(response, url, start, known, num_bytes)
            stream.truncate(begin + start)
            stream.seek(begin + start)
            note(version)
            _copy(response, stream, start, version.total, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # no byte of it follows ours
            if start and error.headers.get("Content-Range", "").strip() == f"bytes */{start}":
                return
            stream.truncate(begin)
            raise Interrupted("the file there is shorter than what was fetched of it; fetched again") from None
        kind = Interrupted if error.code in _MAY_PASS else Refused
        raise kind(f"HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise Interrupted(str(getattr(error.reason, "strerror", None) or error.reason)) from None
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise Interrupted(str(error) or type(error).__name__) from None


def _request(url: str, start: int, known: Version) -> urllib.request.Request:
    headers = {"User-Agent": f"speakerkit/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if known.url == url and known.validator:  # another mirror's validator would never match
            headers["If-Range"] = known.validator
    return urllib.request.Request(url, headers=headers)  # noqa: S310 - continue_download has looked at the scheme


def _judge(response, url: str, start: int, known: Version, num_bytes: int | None) -> tuple[int, Version]:
    """Where the bytes that follow belong, and the version they are of."""
    total = response.headers.get("Content-Length")
    total = int(total) if total is not None and total.isdigit() else None
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if found is None or int(found[1]) != start:
            raise Refused(f"answers a request for the bytes from {start} on with {found and found[0]!r}")
        total = int(found[3]) if found[3].isdigit() else None
        if known.total is not None and total not in (None, known.total):
            raise Refused(f"offers {total:,} bytes; the part that was fetched before is of {known.total:,}")
    else:
        start = 0
    if num_bytes is not None and total is not None and total != num_bytes:
        kind = response.headers.get_content_type()
        raise Refused(f"offers {total:,} bytes ({kind}); wanted {num_bytes:,}")
    etag = response.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    return start, Version(url, validator, total)


def _copy(response, stream: BinaryIO, place: int, total: int | None, progress: Callable[[int], None]) -> None:
    while chunk := response.read(_CHUNK):
        stream.write(chunk)
        place += len(chunk)
        progress(place)
    if total is not None and place != total:
        raise Interrupted(f"the connection ended after {place:,} of {total:,} bytes")
