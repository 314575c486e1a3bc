"""Every way in which a request can be refused: a closed list of codes.

RequestError
├── InvalidRequest (400)   invalid_json · invalid_request · invalid_image_id
│                          missing_image · invalid_base64 · empty_image · corrupt_image
├── TooLarge (413)         image_too_large · too_many_pixels · too_many_items
├── Unsupported (415)      unsupported_format · animated_image
└── (itself, 500)          internal_error: a bug of ours, kept from the photo's neighbours
"""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

CODES: Mapping[str, HTTPStatus] = MappingProxyType(
    {
        "invalid_json": HTTPStatus.BAD_REQUEST,
        "invalid_request": HTTPStatus.BAD_REQUEST,
        "invalid_image_id": HTTPStatus.BAD_REQUEST,
        "missing_image": HTTPStatus.BAD_REQUEST,
        "invalid_base64": HTTPStatus.BAD_REQUEST,
        "empty_image": HTTPStatus.BAD_REQUEST,
        "corrupt_image": HTTPStatus.BAD_REQUEST,
        "image_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_many_pixels": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_many_items": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "unsupported_format": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "animated_image": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
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
