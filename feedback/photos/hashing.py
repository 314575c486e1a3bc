"""Perceptual hashes: find photos that are the same image, re-encoded, rescaled or a little cropped.

The hash is that of `dataset.auditing.hashing.hash_photo` (144 bits; a test compares them), computed with numpy alone,
because serving does not install scipy. At most THRESHOLD bits differ between near duplicates
(dataset/auditing/duplicates.py has the measurements).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 12
THRESHOLD = 22
_BLANK = 2.0  # standard deviation in grey levels below which a hash describes only noise
_THUMBNAIL = 4 * SIDE
_WORDS = 3


def _cosines(size: int) -> npt.NDArray[np.float64]:
    """The matrix of the discrete cosine transform of type 2, without scaling."""
    rows, columns = np.arange(size)[:, None], np.arange(size)[None]
    return np.asarray(2 * np.cos(np.pi * rows * (2 * columns + 1) / (2 * size)), np.float64)


_DCT = _cosines(_THUMBNAIL)[:SIDE]


def phash(photo: Image.Image) -> str:
    """The hash in hexadecimal, 36 digits; empty for a blank image."""
    thumbnail = np.asarray(photo.convert("L").resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS), np.float64)
    if thumbnail.std() < _BLANK:
        return ""
    low = _DCT @ thumbnail @ _DCT.T
    bits = (low > np.median(low)).flatten()
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):0{SIDE**2 // 4}x}"


def packed(hashes: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Hashes as 64-bit words, shape (hashes, 3)."""
    data = b"".join(int(value, 16).to_bytes(8 * _WORDS, "big") for value in hashes)
    return np.frombuffer(data, ">u8").astype(np.uint64).reshape(-1, _WORDS)


def nearest(value: str, others: npt.NDArray[np.uint64]) -> tuple[int, int]:
    """The nearest of packed hashes.

    Returns:
        its index and the number of differing bits; (-1, 145) if there is none or `value` is empty.
    """
    if not value or not len(others):
        return -1, SIDE**2 + 1
    bits = np.bitwise_count(others ^ packed([value])).sum(axis=1)
    index = int(bits.argmin())
    return index, int(bits[index])
