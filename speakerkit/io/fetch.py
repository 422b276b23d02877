"""A recording behind a URL -> its bytes: bounded in size and time, and never from a private network unless told so.

A host name is looked up once for each request; every address is judged, and the connection goes to
one of those very addresses, so that a name which answers differently the next time ("DNS rebinding")
gains nothing. Each redirect is judged anew. No proxy is used, whatever the environment says.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from speakerkit import __version__
from speakerkit.errors import RecordingError

MOST_BYTES = 100 << 20
TIMEOUT_S = 30.0
MOST_REDIRECTS = 5
BLOCK = 1 << 16
PORTS = {"http": 80, "https": 443}
REDIRECTS = (301, 302, 303, 307, 308)
GONE = (404, 410)
# IPv6 addresses that carry an IPv4 address in their last bits, which is the one that would be reached.
NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What older Pythons take for public.
NOT_PUBLIC = [ipaddress.ip_network(text) for text in ("192.0.0.0/24", "64:ff9b:1::/48", "fec0::/10")]


class Deadline:
    """A moment after which nothing goes on, and what it was set for."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then, above 0; TimeoutError when there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def is_over(self) -> bool:
        """Whether that moment is past."""
        return time.monotonic() >= self.end


def fetch_url(url: str, *, allow_private: bool = False, max_bytes: int = MOST_BYTES,
              timeout_s: float = TIMEOUT_S) -> bytes:
    """The content of an http or https URL.

    Args:
        url: without user name and password.
        allow_private: also connect to loopback, link-local, private and other addresses that aren't public.
        max_bytes: a longer content is refused, before it is read where the server says how long it is.
        timeout_s: for everything: look-up, connections, redirects and transfer.

    Raises:
        RecordingError: url-refused (another scheme, a private address, a redirect to one or from https to
            http, too large), missing (404, 410), url-failed (anything else that goes wrong on the way).
            Its path is the URL without its query, which may hold a secret.
        ValueError: limits that are no limits.
    """
    if not max_bytes >= 1 or not 0 < timeout_s < float("inf"):
        raise ValueError(f"max_bytes is {max_bytes}, timeout_s {timeout_s}; want 1 byte or more and a time above 0 s")
    name, deadline = shown(url), Deadline(timeout_s)
    try:
        for _ in range(MOST_REDIRECTS + 1):
            target = check_url(url, name)
            with connect(target, allow_private, deadline, name) as connection:
                location, content = request(connection, target, max_bytes, deadline, name)
            if location is None:
                return content
            url = follow(url, location, name)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if deadline.is_over() or isinstance(error, TimeoutError):
            raise RecordingError(name, "url-failed", f"not there after {timeout_s:g} s") from None
        raise RecordingError(name, "url-failed", describe(error)) from None
    raise RecordingError(name, "url-failed", f"more than {MOST_REDIRECTS} redirects")


def shown(url: str) -> str:
    """A URL as messages may show it: without user name, password, query and fragment."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return url.partition("?")[0]


def check_url(url: str, name: str) -> SplitResult:
    """The parts of a URL that may be fetched."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - ValueError for one that is no number
    except ValueError as error:
        raise RecordingError(name, "url-refused", f"is no URL: {error}") from None
    if parts.scheme not in PORTS:
        raise RecordingError(name, "url-refused", f"scheme is '{parts.scheme}'; want http or https")
    if not parts.hostname:
        raise RecordingError(name, "url-refused", "names no host")
    if parts.username is not None or parts.password is not None:
        raise RecordingError(name, "url-refused", "holds a user name or password; want a URL without")
    return parts


def follow(url: str, location: str, name: str) -> str:
    """Where a redirect leads; never from https to http."""
    target = urljoin(url, location)
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise RecordingError(name, "url-refused", f"redirects from https to {shown(target)}")
    return target


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also when it is wrapped in an IPv6 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in NAT64 else None)
        if inner is not None:
            return is_public(str(inner))
    if any(ip in network for network in NOT_PUBLIC):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback)


def look_up(host: str, port: int, deadline: Deadline) -> list[tuple]:
    """What socket.getaddrinfo says, given up at the deadline: it knows no time limit of its own."""
    answers: list = []

    def ask() -> None:
        try:
            answers.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(deadline.left())
    if not answers:
        raise TimeoutError
    if isinstance(answers[0], Exception):
        raise OSError(f"host '{host}' isn't found: {describe(answers[0])}")
    return answers[0]


@contextlib.contextmanager
def connect(target: SplitResult, allow_private: bool, deadline: Deadline,
            name: str) -> Iterator[http.client.HTTPConnection]:
    """A connection to one of the addresses that were judged; it is cut off at the deadline."""
    host, port = target.hostname, target.port or PORTS[target.scheme]
    addresses = look_up(host, port, deadline)
    if not allow_private:
        for *_, place in addresses:
            if not is_public(place[0]):
                raise RecordingError(name, "url-refused", f"'{host}' is {place[0]}, which is no public address; "
                                                          "allow_private=True connects all the same")
    stream = open_socket(addresses, deadline)
    # A time limit of the socket begins anew with every byte; the watchdog's doesn't. It has a handle of its own,
    # since TLS takes the other one away.
    handle = stream.dup()
    watchdog = threading.Timer(deadline.left(), cut_off, [handle])
    watchdog.daemon = True
    watchdog.start()
    try:
        with stream:
            if target.scheme == "https":
                context = ssl.create_default_context()
                connection = http.client.HTTPSConnection(host, port, context=context)
                stream = context.wrap_socket(stream, server_hostname=host)
            else:
                connection = http.client.HTTPConnection(host, port)
            connection.sock = stream
            with contextlib.closing(connection):
                yield connection
    finally:
        watchdog.cancel()
        handle.close()


def open_socket(addresses: list[tuple], deadline: Deadline) -> socket.socket:
    """A socket connected to the first address that answers."""
    failure: OSError = OSError("the host has no address")
    for family, kind, protocol, _, place in addresses:
        stream = socket.socket(family, kind, protocol)
        try:
            stream.settimeout(deadline.left())
            stream.connect(place)
            return stream
        except OSError as error:
            stream.close()
            failure = error
    raise failure


def cut_off(stream: socket.socket) -> None:
    """End whatever waits for a socket, from another thread."""
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)


def request(connection: http.client.HTTPConnection, target: SplitResult, max_bytes: int, deadline: Deadline,
            name: str) -> tuple[str | None, bytes]:
    """Where a redirect leads, else None and the content."""
    path = quote(target.path or "/", safe="/%:@!$&'()*+,;=~") + ("?" + quote(target.query, safe="/%:@!$&'()*+,;=~?")
                                                                 if target.query else "")
    connection.request("GET", path, headers={"User-Agent": f"speakerkit/{__version__}", "Accept": "audio/*, */*",
                                             "Accept-Encoding": "identity", "Connection": "close"})
    response = connection.getresponse()
    if response.status in REDIRECTS and response.headers["Location"]:
        return response.headers["Location"], b""
    if response.status != 200:
        reason = "missing" if response.status in GONE else "url-failed"
        raise RecordingError(name, reason, f"the server answers {response.status} {response.reason}")
    encoding = response.headers["Content-Encoding"]
    if encoding not in (None, "identity"):
        raise RecordingError(name, "url-failed", f"the content comes encoded as '{encoding}'; want it as it is")
    return None, read_content(response, max_bytes, deadline, name)


def read_content(response: http.client.HTTPResponse, max_bytes: int, deadline: Deadline, name: str) -> bytes:
    """All of a response; no more of it is held than may be taken."""
    declared = response.length
    if declared is not None and declared > max_bytes:
        raise RecordingError(name, "url-refused", f"{declared} bytes; want {max_bytes} at most")
    content = bytearray()
    while block := response.read1(BLOCK):
        content += block
        if len(content) > max_bytes:
            raise RecordingError(name, "url-refused", f"more than {max_bytes} bytes")
        deadline.left()
    if deadline.is_over():  # a connection that was cut off looks like one that ended
        raise TimeoutError
    if declared is not None and len(content) < declared:
        raise RecordingError(name, "url-failed", f"the transfer broke off: {len(content)} of {declared} bytes")
    return bytes(content)


def describe(error: Exception) -> str:
    """A library's error in one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
