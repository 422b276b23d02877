"""The lengths that WAV, RF64 and NIST SPHERE headers declare."""

import struct

from speakerkit.io.extent import ByteSource, Extent

# Data sizes written where the length wasn't known: by most, by ffmpeg, by SoX.
STREAMED_SIZES = (0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFF024)
MAX_CHUNKS = 1000


def is_wave(head: bytes) -> bool:
    """Whether a file begins as WAV, RF64 or big-endian WAV."""
    return head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE"


def read_wave(source: ByteSource) -> Extent | None:
    """The extent of the data chunk; None if there is none (libsndfile then says what is wrong)."""
    order = ">" if source.read_at(0, 4) == b"RIFX" else "<"
    offset, long_size = 12, 0
    for _ in range(MAX_CHUNKS):
        header = source.read_at(offset, 8)
        if len(header) < 8:
            return None
        name, size = struct.unpack(order + "4sI", header)
        if name == b"ds64":  # RF64 and BW64 keep the long sizes here: of the file, then of the data
            long_size = struct.unpack(order + "Q", source.read_at(offset + 16, 8).ljust(8, b"\0"))[0]
        if name == b"data":
            return data_extent(source, offset, size, long_size, order)
        offset += 8 + size + (size & 1)
    return None


def find_chunks(source: ByteSource) -> dict[bytes, tuple[int, int]]:
    """Offset and size in bytes of what the chunks of a little-endian WAV hold, by name, up to its data."""
    found, offset = {}, 12
    for _ in range(MAX_CHUNKS):
        header = source.read_at(offset, 8)
        if len(header) < 8:
            break
        name, size = struct.unpack("<4sI", header)
        found.setdefault(name, (offset + 8, size))
        if name == b"data":
            break
        offset += 8 + size + (size & 1)
    return found


def data_extent(source: ByteSource, offset: int, size: int, long_size: int, order: str) -> Extent:
    """What the data chunk at `offset` declares; a streamed one reaches to the end of the file, as in Kaldi."""
    present = max(0, source.size - offset - 8)
    if size == 0xFFFFFFFF and long_size:
        size = long_size
    elif size == 0 and is_chunk_list(source, offset + 8, order):
        return Extent()
    elif size in STREAMED_SIZES:
        return Extent(size_field=offset + 4, data_bytes=present)
    return Extent(cut=f"{present} of {size} data bytes" if present < size else "")


def is_chunk_list(source: ByteSource, offset: int, order: str) -> bool:
    """Whether what follows a data chunk of size 0 is nothing, or further chunks up to the end."""
    for _ in range(MAX_CHUNKS):
        if offset >= source.size:
            return offset - source.size <= 1  # a last chunk of odd size may lack its pad byte
        header = source.read_at(offset, 8)
        if len(header) < 8:
            return False
        name, size = struct.unpack(order + "4sI", header)
        if not name.isascii() or not name.decode("ascii").isprintable():
            return False
        offset += 8 + size + (size & 1)
    return False


def patch_size(data: bytes, extent: Extent) -> bytes:
    """A WAV that was written to a pipe, with the size of its data filled in."""
    order = "big" if data[:4] == b"RIFX" else "little"
    size = min(extent.data_bytes, 0xFFFFFFFE)
    return data[:extent.size_field] + size.to_bytes(4, order) + data[extent.size_field + 4:]


def read_sphere(source: ByteSource) -> Extent | None:
    """What the text header of a SPHERE file declares; None where it can't be told (or is packed by shorten)."""
    try:
        header_bytes = int(source.read_at(8, 8))
        lines = source.read_at(0, min(header_bytes, 65536)).split(b"\n")
        fields = {words[0]: words[2] for words in (line.split() for line in lines) if len(words) == 3}
        num_samples = int(fields[b"sample_count"])
        declared = (num_samples * int(fields.get(b"channel_count", b"1"))
                    * int(fields.get(b"sample_n_bytes", b"2")))
    except (ValueError, KeyError):
        return None
    if b"shorten" in fields.get(b"sample_coding", b""):
        return None
    present = max(0, source.size - header_bytes)
    return Extent(cut=f"{present} of {declared} data bytes" if present < declared else "", num_samples=num_samples)
