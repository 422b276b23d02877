"""The first block of a FLAC file, which says how long it is (RFC 9639, section 8.2)."""

_MARK = b"fLaC"
_STREAM_INFO, _STREAM_INFO_BYTES = 0, 34
HEAD_BYTES = 4 + 4 + _STREAM_INFO_BYTES


def read_stream_info(head: bytes) -> tuple[int, int] | None:
    """(samples of a channel, sample rate in Hz) from a file's first HEAD_BYTES; None if they don't say it.

    A length of 0 means that whoever wrote the file didn't know it.
    """
    if len(head) < HEAD_BYTES or head[:4] != _MARK or head[4] & 0x7F != _STREAM_INFO:
        return None
    bits = int.from_bytes(head[18:26], "big")  # 20 of the rate, 3 of channels, 5 of sample size, 36 of the length
    sample_rate, num_samples = bits >> 44, bits & (1 << 36) - 1
    return (num_samples, sample_rate) if num_samples and sample_rate else None
