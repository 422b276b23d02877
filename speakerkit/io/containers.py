"""Which container a file is by its first bytes, and what to say of one that isn't read here."""

from speakerkit.io import mpeg, ogg, riff
from speakerkit.io.extent import ByteSource, Extent

HEADER_BYTES = 64
WANTED_FORMATS = "want WAV, FLAC, OGG/Opus, MP3 or raw .pcm"
CONVERT = "ffmpeg -i IN -ac 1 -ar 16000 OUT.wav"


def read_extent(source: ByteSource) -> Extent | None:
    """What the container says of its own length; None where only decoding shows it (FLAC)."""
    head = source.read_at(0, HEADER_BYTES)
    if riff.is_wave(head):
        return riff.read_wave(source)
    if head[:8] == b"NIST_1A\n":
        return riff.read_sphere(source)
    if head[:4] == b"OggS":
        return ogg.read_extent(source)
    if is_mpeg(head):
        return mpeg.read_extent(source)
    return None


def is_mpeg(head: bytes) -> bool:
    """Whether a file begins as MP3: with a layer III frame or an ID3 tag."""
    return head[:3] == b"ID3" or (head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE6 == 0xE2)


def describe_refusal(source: ByteSource, words: str) -> tuple[str, str]:
    """Reason code and detail for a file that libsndfile doesn't open.

    Args:
        source: its bytes.
        words: what libsndfile said.
    """
    head = source.read_at(0, HEADER_BYTES)
    starts_well = riff.is_wave(head) or head[:4] in (b"fLaC", b"OggS") or head[:8] == b"NIST_1A\n" or is_mpeg(head)
    if not starts_well:
        return "unsupported-format", describe_unknown(head)
    if source.size < HEADER_BYTES:
        return "truncated", f"{source.size} bytes end inside the header"
    if head[:4] == b"OggS" and (extent := ogg.read_extent(source)).cut:
        return "truncated", extent.cut
    return "unreadable", f"damaged: {words}"


def describe_unknown(head: bytes) -> str:
    """What a file that isn't audio read here seems to be, and what would help."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"<":
        return f"looks like HTML or XML, not audio: it begins {head[:32]!r}"
    if text[:1] in (b"{", b"["):
        return f"looks like JSON, not audio: it begins {head[:32]!r}"
    for is_it, name in (
        (head[4:8] == b"ftyp", "M4A/MP4 (AAC)"),
        (head[:2] in (b"\xff\xf1", b"\xff\xf9"), "AAC"),
        (head[:4] == b"\x1a\x45\xdf\xa3", "WebM/Matroska"),
        (head[:5] == b"#!AMR", "AMR"),
        (head[:4] == b"\x30\x26\xb2\x75", "WMA/ASF"),
        (head[:4] == b"FORM", "AIFF"),
        (head[:4] == b"RIFF", f"RIFF of kind {head[8:12].decode('ascii', 'replace')!r}"),
    ):
        if is_it:
            return f"is {name}; {WANTED_FORMATS}, or convert it: {CONVERT}"
    if head[:2] == b"\x1f\x8b" or head[:4] == b"PK\x03\x04":
        return f"is a gzip or zip archive; {WANTED_FORMATS}"
    return f"begins {head[:16]!r}, as no audio format does; {WANTED_FORMATS}"
