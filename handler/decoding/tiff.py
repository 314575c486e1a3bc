"""The tags of a TIFF: only those that the pixels need go to the decoder, and only variants that it reads rightly.

Source: TIFF 6.0; the differential corpus compares every variant with libvips.
"""

from handler.decoding.costs import check_blocks
from handler.decoding.formats import Prepared, damaged, unsupported
from handler.decoding.tags import Directory, read_directory

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _SAMPLES, _PLANAR, _PREDICTOR, _TILES = 273, 277, 284, 317, 324
_INK_SET, _EXTRA, _FORMAT, _SUBSAMPLING, _KIND, _DNG = 332, 338, 339, 530, 254, 50706
_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT = 278, 322, 323
_NEEDED = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _FILL_ORDER, _STRIPS, _SAMPLES, 278, 279, _PLANAR, 292, 293}
    | {_PREDICTOR, 320, 322, 323, _TILES, 325, _EXTRA, _FORMAT, 347, 529, _SUBSAMPLING, 532}
)
_RAW, _OLD_JPEG, _JPEG = 1, 6, 7
# None, CCITT (three kinds), LZW, JPEG, Deflate (two numbers), PackBits, LZMA, Zstandard: built into Pillow's libtiff.
_COMPRESSIONS = {_RAW, 2, 3, 4, 5, _JPEG, 8, 32946, 32773, 34925, 50000}
_UNREAD = {
    _OLD_JPEG: "old-style JPEG",
    32809: "ThunderScan",
    34661: "JBIG",
    34676: "SGILog",
    34677: "SGILog",
    34712: "JPEG 2000",
    34887: "LERC",
    50001: "WebP",
    50002: "JPEG XL",
    32767: "Sony ARW",
    34713: "Nikon NEF",
}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLOUR_NAMES = {
    4: "a transparency mask",
    8: "CIELAB colours",
    9: "ICCLab colours",
    10: "ITULab colours",
    32844: "LogL colours",
    32845: "LogLuv colours",
}
_YCBCR_RANGES = {529, 532}
_CAMERA = {32803, 34892}
_SAMPLE_FORMATS = {2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex"}
_DEPTHS = {
    _WHITE_IS_ZERO: (1, 2, 4, 8, 16),
    _BLACK_IS_ZERO: (1, 2, 4, 8, 12, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _CMYK: (8, 16),
    _YCBCR: (8,),
}


def prepare(data: bytes) -> Prepared:
    """Keep the tags of the first page's pixels.

    Raises:
        RequestError: `unsupported_format`; `corrupt_image` if the directory is cut off; `too_costly`.
    """
    tags = read_directory(data)
    if tags is None or not tags.complete(_NEEDED) or not {_WIDTH, _HEIGHT} <= tags.entries.keys():
        raise damaged()
    _check_kind(tags)
    _check_samples(tags)
    _check_order(tags)
    size = (tags.value(_WIDTH, 0), tags.value(_HEIGHT, 0))
    _check_blocks(tags, size)
    return Prepared(
        "TIFF",
        tags.only(_NEEDED),
        size,
        tags.orientation,
        bits=max(tags.values(_BITS), default=1),
        inverted=tags.value(_COLOURS, 0) == _WHITE_IS_ZERO,
        unclear_alpha=tags.value(_COLOURS, 0) == _RGB and tags.value(_SAMPLES, 3) > 3 and _EXTRA not in tags.entries,
    )


def _check_kind(tags: Directory) -> None:
    compression, colours = tags.value(_COMPRESSION, _RAW), tags.value(_COLOURS, 0)
    if _DNG in tags.entries or colours in _CAMERA or tags.data[8:10] == b"CR":
        raise unsupported("a camera's raw photo")
    if tags.value(_KIND, 0) & 1:
        raise unsupported("a TIFF whose first page is a thumbnail, as in a camera's raw photo,")
    if compression not in _COMPRESSIONS:
        raise unsupported(f"a TIFF with {_UNREAD.get(compression, f'compression {compression}')} inside")
    if colours not in _DEPTHS:
        raise unsupported(f"a TIFF with {_COLOUR_NAMES.get(colours, f'photometric interpretation {colours}')}")
    if colours == _CMYK and tags.value(_INK_SET, 1) != 1:
        raise unsupported("a TIFF with inks other than CMYK")


def _check_blocks(tags: Directory, size: tuple[int, int]) -> None:
    if _TILES in tags.entries:
        block = (tags.value(_TILE_WIDTH, size[0]), tags.value(_TILE_HEIGHT, size[1]))
        check_blocks(tags.entries[_TILES].count, block, size)
    elif _STRIPS in tags.entries:
        rows = min(size[1], tags.value(_ROWS_PER_STRIP, size[1]))
        check_blocks(tags.entries[_STRIPS].count, (size[0], rows), size)


def _check_samples(tags: Directory) -> None:
    formats = set(tags.values(_FORMAT)) or {1}
    bits, colours = tags.values(_BITS) or (1,), tags.value(_COLOURS, 0)
    if formats != {1}:
        raise unsupported(f"a TIFF with {_SAMPLE_FORMATS.get(max(formats), 'unusual')} samples")
    if len(set(bits)) > 1:
        raise unsupported("a TIFF whose channels have different depths")
    if bits[0] not in _DEPTHS[colours]:
        raise unsupported(f"a TIFF with {bits[0]} bits per sample and photometric interpretation {colours}")
    plain = (
        tags.values(_SUBSAMPLING) == (1, 1) and tags.value(_PLANAR, 1) == 1 and not _YCBCR_RANGES & tags.entries.keys()
    )
    if colours == _YCBCR and tags.value(_COMPRESSION, _RAW) != _JPEG and not plain:
        raise unsupported("a TIFF with subsampled or planar YCbCr colours that is not compressed as JPEG")


def _check_order(tags: Directory) -> None:
    """How the samples follow one another."""
    bits, colours, raw = tags.value(_BITS, 1), tags.value(_COLOURS, 0), tags.value(_COMPRESSION, _RAW) == _RAW
    if tags.width == 8 and tags.order == ">":
        raise unsupported("a big-endian BigTIFF")
    if tags.value(_PLANAR, 1) != 1 and (bits > 8 or _EXTRA in tags.entries):
        raise unsupported("a TIFF with separate colour planes of 16 bits, or with alpha,")
    if tags.value(_FILL_ORDER, 1) != 1 and raw and (bits > 1 or colours == _PALETTE):
        raise unsupported("an uncompressed TIFF with reversed bits (FillOrder 2)")
