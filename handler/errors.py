"""Every reason for refusing a request: a closed list of error codes, each with one HTTP status.

RequestError
├── InvalidRequest (400)   invalid_json · invalid_request · invalid_image_id
│                          missing_image · invalid_base64 · empty_image · corrupt_image
├── TooLarge (413)         image_too_large · too_many_pixels · too_costly · too_many_items · body_too_large
├── Unsupported (415)      unsupported_format · animated_image · unsupported_encoding
├── OutOfScope (422)       out_of_scope
└── (the base class, 500)  internal_error: a bug in the handler; other photos of the batch are still answered
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
        "too_costly": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_many_items": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "unsupported_format": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "animated_image": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported_encoding": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "out_of_scope": HTTPStatus.UNPROCESSABLE_ENTITY,
        "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    }
)
"""Error code -> HTTP status. A test compares the table in the API documentation with it."""


class RequestError(Exception):
    """A request, or one photo of it, is refused.

    Args:
        code: one of `CODES`.
        message: what is wrong and what to do, in one sentence; sent to the client unchanged.

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
    """400: the request is malformed, or the photo in it is damaged."""


class TooLarge(RequestError):
    """413: over a limit of size, or of the time and memory that decoding may take."""


class OutOfScope(RequestError):
    """422: the photo is sound but shows none of the classes, and the recipe refuses such photos."""


class Unsupported(RequestError):
    """415: the file is intact but is not a still image in a supported format, or the body is packed in another way."""
