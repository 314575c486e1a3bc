"""Every way in which a request can be refused: a closed list of codes.

RequestError
├── InvalidRequest (400)   invalid_json · invalid_request · invalid_image_id
│                          missing_image · invalid_base64 · empty_image · corrupt_image
├── TooLarge (413)         image_too_large · too_many_pixels · too_many_items
└── Unsupported (415)      unsupported_format · animated_image
"""

from collections.abc import Mapping
from types import MappingProxyType

PHRASES: Mapping[int, str] = MappingProxyType(
    {
        200: "OK",
        400: "Bad Request",
        413: "Content Too Large",
        415: "Unsupported Media Type",
        500: "Internal Server Error",
    }
)

CODES: Mapping[str, int] = MappingProxyType(
    {
        "invalid_json": 400,
        "invalid_request": 400,
        "invalid_image_id": 400,
        "missing_image": 400,
        "invalid_base64": 400,
        "empty_image": 400,
        "corrupt_image": 400,
        "image_too_large": 413,
        "too_many_pixels": 413,
        "too_many_items": 413,
        "unsupported_format": 415,
        "animated_image": 415,
        "internal_error": 500,
    }
)
"""Error code -> HTTP status. The README's table is tested against this."""


class RequestError(Exception):
    """A refusal that the client can act on.

    Args:
        code: one of `CODES`.
        message: one sentence that names the fix; goes to the client as it is.

    Raises:
        KeyError: `code` is not in `CODES`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = CODES[code]
        self.message = message

    def as_json(self) -> dict[str, str]:
        """The value of an answer's `error` key."""
        return {"code": self.code, "message": self.message}


class InvalidRequest(RequestError):
    """400: the request, or the photo in it, is broken."""


class TooLarge(RequestError):
    """413: refused before anything is decoded."""


class Unsupported(RequestError):
    """415: sound data, but no still picture that we take."""
