"""The supported formats, and what is common to reading them."""

from dataclasses import dataclass

from handler.errors import InvalidRequest, Unsupported

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000")
SUPPORTED = "send a still JPEG, PNG, WebP, BMP, TIFF, AVIF or JPEG 2000"
ADVICE = "save it as a JPEG or PNG with 8 bits per channel"


@dataclass(frozen=True)
class Prepared:
    """A file reduced to what its pixels need.

    Attributes:
        format: one of `FORMATS`.
        data: the file without metadata that the decoder would read, and fail on.
        size: width and height in the header, as stored; (0, 0) if only the decoder knows them.
        orientation: as in EXIF, 1 to 8; None: as the decoder finds it.
        bits: of a grey value of 9 to 16 bits.
        inverted: whether a grey value of 9 to 16 bits is 0 for white.
        levels: of a JPEG 2000: how often it can be decoded at half the width and height.
        unclear_alpha: whether the file does not say if its fourth channel is alpha.
        witness: the same file with other bytes behind its end, if it has no end marker: where both give the same
            pixels, none is missing.
    """

    format: str
    data: bytes
    size: tuple[int, int] = (0, 0)
    orientation: int | None = None
    bits: int = 16
    inverted: bool = False
    levels: int = 0
    unclear_alpha: bool = False
    witness: bytes = b""


def unsupported(variant: str) -> Unsupported:
    """415 for an intact file. `variant` names it with its article, as in "a 12-bit JPEG"."""
    return Unsupported("unsupported_format", f"{variant} is not supported: {ADVICE}")


def damaged() -> InvalidRequest:
    """400 for a file whose pixels are not all there."""
    return InvalidRequest("corrupt_image", "the photo is truncated or damaged: send the complete file again")
