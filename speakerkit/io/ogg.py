"""The pages of an Ogg file: is the last one there, is one damaged (RFC 3533)."""

import zlib

from speakerkit.io.extent import ByteSource, Extent

MAX_PAGE = 65307
PAGE_HEADER = 27
LAST_PAGE = 4  # the flag of a stream's last page
REVERSED_BITS = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def read_extent(source: ByteSource) -> Extent:
    """Whether the file ends in a whole page that says it is the last of its stream."""
    start = max(0, source.size - 2 * MAX_PAGE)
    tail = source.read_at(start, source.size - start)
    place = tail.rfind(b"OggS")
    while place >= 0:
        length = page_length(tail[place:place + PAGE_HEADER + 255])
        if length is not None and place + length <= len(tail):
            if tail[place + 5] & LAST_PAGE:
                return Extent()
            return Extent(cut="its last Ogg page is missing", usable_bytes=start + place + length)
        place = tail.rfind(b"OggS", 0, place)
    return Extent(cut="its last Ogg page is missing")


def find_damage(source: ByteSource) -> str:
    """The first page with a wrong checksum or a gap before it; '' if there is none.

    libvorbis and libopus leave such a page out and go on, which makes a shorter recording.
    """
    offset, numbers = 0, {}
    while offset < source.size:
        length = page_length(source.read_at(offset, PAGE_HEADER + 255))
        page = source.read_at(offset, length) if length is not None else b""
        if length is None or len(page) < length:
            return "" if is_past_end(source, offset) else f"no whole Ogg page at byte {offset}"
        if page_checksum(page) != int.from_bytes(page[22:26], "little"):
            return f"the Ogg page at byte {offset} has a wrong checksum"
        stream, number = page[14:18], int.from_bytes(page[18:22], "little")
        if number != numbers.get(stream, number):
            return f"Ogg pages are missing before byte {offset}"
        numbers[stream] = number + 1
        offset += length
    return ""


def is_past_end(source: ByteSource, offset: int) -> bool:
    """Whether only tags or junk are left: no page begins in what follows."""
    return b"OggS" not in source.read_at(offset, 2 * MAX_PAGE)


def page_length(head: bytes) -> int | None:
    """Bytes of the page that begins here; None if none does."""
    if head[:5] != b"OggS\0" or len(head) < PAGE_HEADER:
        return None
    num_segments = head[26]
    if len(head) < PAGE_HEADER + num_segments:
        return None
    return PAGE_HEADER + num_segments + sum(head[PAGE_HEADER:PAGE_HEADER + num_segments])


def page_checksum(page: bytes) -> int:
    """Ogg's CRC-32, which is zlib's polynomial with the bits the other way round and no inversion."""
    blank = page[:22] + bytes(4) + page[26:]
    value = zlib.crc32(blank.translate(REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)
