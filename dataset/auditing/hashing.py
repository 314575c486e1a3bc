"""The perceptual hash of a photo."""

import imagehash
import numpy as np
from PIL import Image

HASH_SIDE = 12
"""A perceptual hash has 12 x 12 = 144 bits, 36 hexadecimal digits; `dataset.auditing.duplicates` says why."""

# Standard deviation in grey levels. The flattest real photo at hand has 11; below 2, a hash describes only noise.
_BLANK = 2.0


def hash_photo(photo: Image.Image) -> str:
    """Perceptual hash (DCT of a thumbnail, Zauner 2010, by ImageHash) in hexadecimal; empty for a blank image."""
    # The first step of ImageHash, done here to detect blank images by the same thumbnail.
    thumbnail = photo.convert("L").resize((4 * HASH_SIDE, 4 * HASH_SIDE), Image.Resampling.LANCZOS)
    if float(np.asarray(thumbnail).std()) < _BLANK:
        return ""
    return str(imagehash.phash(thumbnail, hash_size=HASH_SIDE))
