"""The frames of an MP3 file, walked without decoding: is the last one there, how many are there.

libsndfile takes the length of a file without a Xing header from its first bit rate, which is
wrong where the rate varies, and then stops there.
"""

from dataclasses import dataclass

from speakerkit.io.extent import ByteSource, Extent

# kbit/s of layer III by index: MPEG-1, then MPEG-2 and 2.5
BIT_RATES = ((0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
             (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160))
SAMPLE_RATES = (44100, 48000, 32000)
TAGS = (b"TAG", b"APETAGEX", b"LYRICS", b"ID3", b"3DI", b"\0\0\0\0")
MAX_SAMPLES_PER_FRAME = 1152


@dataclass(frozen=True)
class Frame:
    """One MPEG audio frame."""

    length: int       # bytes
    num_samples: int
    shape: int        # version, layer and sample rate: the same in all frames of a file


def read_extent(source: ByteSource) -> Extent | None:
    """Whether the last frame is whole and as many are there as the Xing header says.

    None where this can't be told: no layer III frame at the start, or junk between frames.
    """
    offset = skip_id3(source)
    first = read_frame(source, offset)
    if first is None:
        return None
    head = source.read_at(offset, 64)
    place = max(head.find(b"Xing"), head.find(b"Info"))
    has_header = place > 0 or head[36:40] == b"VBRI"
    declared = int.from_bytes(head[place + 8:place + 12], "big") if place > 0 and head[place + 7] & 1 else None
    count, offset = 0, offset + first.length if has_header else offset
    while (frame := read_frame(source, offset)) is not None and frame.shape == first.shape:
        if offset + frame.length > source.size:
            return Extent(cut="ends inside an MPEG frame")
        offset += frame.length
        count += 1
    if not is_end(source, offset):
        return None
    # Some encoders count the frame that holds the header, some don't.
    if declared is not None and count + 1 < declared:
        return Extent(cut=f"{count} of {declared} MPEG frames")
    return Extent(num_samples=None if has_header else count * first.num_samples)


def is_end(source: ByteSource, offset: int) -> bool:
    """Whether the frames end here: at the end of the file, at a tag or at padding."""
    rest = source.read_at(offset, 8)
    return len(rest) < 4 or rest.startswith(TAGS)


def skip_id3(source: ByteSource) -> int:
    """Where an ID3v2 tag at the start ends; 0 without one."""
    head = source.read_at(0, 10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)


def read_frame(source: ByteSource, offset: int) -> Frame | None:
    """The layer III frame whose header stands at `offset`; None if there is none."""
    head = source.read_at(offset, 4)
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # 11 bits of sync, layer III
        return None
    version, rate_index = head[1] >> 3 & 3, head[2] >> 2 & 3
    bit_index = head[2] >> 4
    if version == 1 or rate_index == 3 or bit_index in (0, 15):
        return None
    is_mpeg1 = version == 3
    sample_rate = SAMPLE_RATES[rate_index] // {3: 1, 2: 2, 0: 4}[version]
    num_samples = 1152 if is_mpeg1 else 576
    bits_per_second = 1000 * BIT_RATES[0 if is_mpeg1 else 1][bit_index]
    length = num_samples // 8 * bits_per_second // sample_rate + (head[2] >> 1 & 1)
    return Frame(length, num_samples, version << 2 | rate_index)
