"""The supported formats, and the error code of a file that cannot be decoded."""

from handler.errors import InvalidRequest, RequestError, Unsupported

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000")
# First bytes of the supported formats: they distinguish a damaged photo (400) from an unsupported file (415).
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
SUPPORTED = "send a still JPEG, PNG, WebP, BMP, TIFF, AVIF or JPEG 2000"


def refusal(data: bytes, error: Exception) -> RequestError:
    known = data.startswith(_SIGNATURES) or data[8:12] == b"WEBP" or data[4:12] in (b"ftypavif", b"ftypavis")
    if known and not _codec_missing(error):
        return InvalidRequest("corrupt_image", "the photo is truncated or damaged: send the complete file again")
    return Unsupported("unsupported_format", f"unsupported image format: {SUPPORTED}")


def _codec_missing(error: Exception) -> bool:
    """Whether the file may be intact, but Pillow was built without the codec that it needs."""
    return isinstance(error, OSError) and "not available" in str(error)
