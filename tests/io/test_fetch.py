"""URLs to bytes, against servers on this machine: what is fetched, and all that must not be."""

import contextlib
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from speakerkit.errors import RecordingError
from speakerkit.io import fetch

CONTENT = bytes(range(256)) * 40
LENGTH = len(CONTENT)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path; what it was asked is kept in `server.asked`."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Host"], self.client_address[0]))
        answer = getattr(self, "answer_" + self.path[1:].partition("?")[0].partition("/")[0], self.answer_content)
        with contextlib.suppress(ConnectionError):
            answer()

    def answer_content(self, status=200, length: int | None = LENGTH, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(CONTENT)

    def answer_unsaid(self):
        self.answer_content(length=None)

    def answer_chunked(self):
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(CONTENT), 1000):
            block = CONTENT[start:start + 1000]
            self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        if "cut" not in self.path:
            self.wfile.write(b"0\r\n\r\n")

    def answer_huge(self):
        self.answer_content(length=10 ** 12)

    def answer_endless(self):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(CONTENT)

    def answer_short(self):
        self.answer_content(length=len(CONTENT) + 5)

    def answer_gzip(self):
        self.answer_content(length=None, Content_Encoding="gzip")

    def answer_status(self):
        self.answer_content(int(self.path.rpartition("/")[2]))

    def answer_redirect(self):
        self.answer_content(302, Location=self.path.partition("?to=")[2])

    def answer_around(self):
        self.answer_content(302, Location="/around")

    def answer_garbage(self):
        self.wfile.write(b"\x00\x01\x02 no http\r\n\r\n")

    def answer_trickle(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.trickle(b"x")

    def answer_slowheaders(self):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        self.trickle(b"X-A: b\r\n")

    def trickle(self, what):
        while not self.server.ended.wait(0.02):
            self.wfile.write(what)

    def answer_mute(self):
        self.server.ended.wait(20)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving(address="127.0.0.1", context=None):
    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    server.asked, server.ended = [], threading.Event()
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server():
    with serving() as made:
        yield made


def url_of(server, path="/a.wav", host="127.0.0.1", scheme="http"):
    return f"{scheme}://{host}:{server.server_port}{path}"


def refused(url, reason, **options):
    with pytest.raises(RecordingError) as caught:
        fetch.fetch_url(url, **options)
    assert caught.value.reason == reason
    return caught.value.detail


@pytest.mark.parametrize("path", ["/a.wav", "/unsaid", "/chunked", "", "/a b/中文.wav?name=x y&z=%20",
                                  "/redirect?to=/b.wav", "/redirect?to=unsaid"])
def test_what_is_fetched(server, path):
    assert fetch.fetch_url(url_of(server, path), allow_private=True) == CONTENT


def test_a_path_is_sent_as_http_wants_it(server):
    fetch.fetch_url(url_of(server, "/a b/中.wav?q=x y&z=%20"), allow_private=True)
    assert server.asked[0][0] == "/a%20b/%E4%B8%AD.wav?q=x%20y&z=%20"


@pytest.mark.parametrize("url, detail", [
    ("file:///etc/passwd", "scheme is 'file'; want http or https"),
    ("ftp://example.com/a.wav", "scheme is 'ftp'"),
    ("/etc/passwd", "scheme is ''"),
    ("a.wav", "scheme is ''"),
    ("", "scheme is ''"),
    ("http:///a.wav", "names no host"),
    ("http://user:secret@example.com/a.wav", "holds a user name or password"),
    ("http://example.com:port/", "is no URL"),
    ("http://[::1/", "is no URL"),
])
def test_what_is_no_url_to_fetch(url, detail):
    assert detail in refused(url, "url-refused", allow_private=True)


@pytest.mark.parametrize("address, is_public", [
    ("93.184.216.34", True), ("8.8.8.8", True), ("2606:4700::1111", True),
    ("127.0.0.1", False), ("127.8.8.8", False), ("0.0.0.0", False), ("10.1.2.3", False), ("172.16.0.1", False),
    ("172.32.0.1", True), ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False),
    ("192.0.0.8", False), ("198.18.0.1", False), ("224.0.0.1", False), ("224.0.1.1", False), ("240.0.0.1", False),
    ("255.255.255.255", False), ("::1", False), ("::", False), ("fe80::1%eth0", False), ("fc00::1", False),
    ("fec0::1", False), ("ff02::1", False), ("ff0e::1", False), ("2001:db8::1", False),
    ("::ffff:127.0.0.1", False), ("::ffff:10.0.0.1", False), ("::ffff:8.8.8.8", True),
    ("64:ff9b::7f00:1", False), ("64:ff9b::808:808", True), ("64:ff9b:1::808:808", False),
    ("2002:7f00:1::", False), ("2002:a00:1::1", False), ("2001:0:7f00:1::", False),
])
def test_public_addresses(address, is_public):
    assert fetch.is_public(address) is is_public


@pytest.mark.parametrize("host, address", [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"),
                                           ("2130706433", "127.0.0.1"), ("0x7f.1", "127.0.0.1"),
                                           ("0", "0.0.0.0"), ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1")])
def test_private_addresses_are_not_connected_to(server, monkeypatch, host, address):
    monkeypatch.setattr(fetch.socket, "socket", None)  # a connection would fail otherwise than by refusal
    detail = refused(url_of(server, host=host), "url-refused")
    assert "which is no public address; allow_private=True connects all the same" in detail
    assert address in detail or host == "localhost"
    assert not server.asked


def test_one_private_address_among_public_ones_is_enough(server, monkeypatch):
    lines = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, server.server_port))
             for address in ("93.184.216.34", "127.0.0.1")]
    monkeypatch.setattr(fetch.socket, "getaddrinfo", lambda *args, **options: lines)
    assert "'two.example' is 127.0.0.1" in refused(url_of(server, host="two.example"), "url-refused")


def resolve_as(monkeypatch, names):
    """Names answer with one address after another; 127.0.0.1 passes for a public one."""
    asked, ask = [], socket.getaddrinfo

    def answer(host, port, **options):
        asked.append(host)
        return ask(names[host].pop(0) if host in names else host, port, **options)

    monkeypatch.setattr(fetch.socket, "getaddrinfo", answer)
    monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.1")
    return asked


def test_the_judged_address_is_the_one_connected_to(server, monkeypatch):
    """A name that turns private after it was judged: asked once, and never again."""
    asked = resolve_as(monkeypatch, {"voices.example": ["127.0.0.1", "127.0.0.2"]})
    assert fetch.fetch_url(url_of(server, host="voices.example")) == CONTENT
    assert asked == ["voices.example"]
    assert server.asked == [("/a.wav", f"voices.example:{server.server_port}", "127.0.0.1")]


@pytest.mark.parametrize("target", ["http://127.0.0.2:{port}/b.wav", "//127.0.0.2:{port}/b.wav",
                                    "http://inner.example:{port}/b.wav"])
def test_a_redirect_is_judged_anew(server, monkeypatch, target):
    resolve_as(monkeypatch, {"inner.example": ["127.0.0.2"]})
    detail = refused(url_of(server, "/redirect?to=" + target.format(port=server.server_port)), "url-refused")
    assert "is 127.0.0.2, which is no public address" in detail
    assert len(server.asked) == 1


@pytest.mark.parametrize("target, detail", [
    ("file:///etc/passwd", "scheme is 'file'"),
    ("http://user@127.0.0.1/", "holds a user name"),
])
def test_where_a_redirect_may_not_lead(server, target, detail):
    assert detail in refused(url_of(server, f"/redirect?to={target}"), "url-refused", allow_private=True)


def test_redirects_end(server):
    assert refused(url_of(server, "/around"), "url-failed", allow_private=True) == "more than 5 redirects"
    assert len(server.asked) == 6


@pytest.mark.parametrize("path, reason, detail", [
    ("/huge", "url-refused", "1000000000000 bytes; want 10000 at most"),
    ("/a.wav", "url-refused", "10240 bytes; want 10000 at most"),
    ("/unsaid", "url-refused", "more than 10000 bytes"),
    ("/chunked", "url-refused", "more than 10000 bytes"),
    ("/endless", "url-refused", "more than 10000 bytes"),
])
def test_size_limit(server, path, reason, detail):
    assert refused(url_of(server, path), reason, allow_private=True, max_bytes=10000) == detail


@pytest.mark.parametrize("path", ["/trickle", "/slowheaders", "/mute"])
def test_time_limit_is_for_everything(server, path):
    """A byte now and then doesn't prolong it."""
    began = time.monotonic()
    assert refused(url_of(server, path), "url-failed", allow_private=True, timeout_s=0.3) == "not there after 0.3 s"
    assert time.monotonic() - began < 10


def test_time_limit_of_a_look_up(monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(fetch.socket, "getaddrinfo", lambda *args, **options: ended.wait(20))
    assert refused("http://slow.example/a.wav", "url-failed", timeout_s=0.1) == "not there after 0.1 s"
    ended.set()


@pytest.mark.parametrize("path, reason, detail", [
    ("/status/404", "missing", "the server answers 404 Not Found"),
    ("/status/410", "missing", "the server answers 410 Gone"),
    ("/status/500", "url-failed", "the server answers 500 Internal Server Error"),
    ("/status/304", "url-failed", "the server answers 304"),
    ("/short", "url-failed", "the transfer broke off: 10240 of 10245 bytes"),
    ("/chunked/cut", "url-failed", "IncompleteRead"),
    ("/gzip", "url-failed", "the content comes encoded as 'gzip'; want it as it is"),
    ("/garbage", "url-failed", "no http"),
])
def test_what_goes_wrong_on_the_way(server, path, reason, detail):
    assert detail in refused(url_of(server, path), reason, allow_private=True)


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert refused(f"http://127.0.0.1:{port}/", "url-failed", allow_private=True) == "Connection refused"
    assert "host 'no-such-host.invalid' isn't found" in refused("http://no-such-host.invalid/", "url-failed")
    assert "isn't found" in refused(f"http://{'a' * 64}.example/", "url-failed")


def test_proxies_are_not_used(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch.fetch_url(url_of(server), allow_private=True) == CONTENT


def test_a_message_holds_no_secret(server):
    with pytest.raises(RecordingError) as caught:
        fetch.fetch_url(url_of(server, "/status/500?token=secret#x"), allow_private=True)
    assert "secret" not in str(caught.value) and caught.value.path.endswith("/status/500")
    assert fetch.shown("http://user:secret@example.com:80/a?b=secret#c") == "http://example.com:80/a"


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"timeout_s": 0}, {"timeout_s": float("inf")},
                                    {"timeout_s": float("nan")}])
def test_limits_that_are_none(limits):
    with pytest.raises(ValueError, match="want 1 byte or more and a time above 0 s"):
        fetch.fetch_url("http://example.com/", **limits)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key", "-out", folder / "crt"],
                   check=True, capture_output=True)
    return folder


def test_https(certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "crt", certificate / "key")
    trust = ssl.create_default_context
    with serving(context=context) as server:
        url = url_of(server, host="localhost", scheme="https")
        assert "its certificate is not trusted" in refused(url, "url-failed", allow_private=True)
        monkeypatch.setattr(fetch.ssl, "create_default_context", lambda: trust(cafile=certificate / "crt"))
        assert fetch.fetch_url(url, allow_private=True) == CONTENT
        other = url_of(server, host="127.0.0.1", scheme="https")  # the certificate is localhost's
        assert "its certificate is not trusted" in refused(other, "url-failed", allow_private=True)
        down = url_of(server, f"/redirect?to=http://localhost:{server.server_port}/", "localhost", "https")
        assert "redirects from https to http://localhost" in refused(down, "url-refused", allow_private=True)
        slow = url_of(server, "/trickle", "localhost", "https")
        assert refused(slow, "url-failed", allow_private=True, timeout_s=0.5) == "not there after 0.5 s"
