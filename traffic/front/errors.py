"""The answers that the front gives itself, in the shape of the handler's errors."""

import json
from dataclasses import dataclass, field
from http import HTTPStatus


@dataclass(frozen=True)
class FrontError:
    """One answer.

    Attributes:
        code: for programs; the handler's code where it means the same.
        message: what is wrong and what to do.
        headers: NAME VALUE, as in nginx's add_header.
        grpc: the status of a call over gRPC; 0: gRPC's own reading of the HTTP status is right.
    """

    status: HTTPStatus
    code: str
    message: str
    headers: tuple[str, ...] = field(default=())
    grpc: int = 0

    @property
    def body(self) -> str:
        """The JSON of the answer. Raises ValueError: a character would end or change nginx's string."""
        text = json.dumps({"image_id": None, "error": {"code": self.code, "message": self.message}})
        if set("'$\\") & set(text):
            raise ValueError(text)
        return text


RETRY = ("Retry-After 1",)
ERRORS = (
    FrontError(
        HTTPStatus.BAD_REQUEST, "invalid_request", "the request is not valid HTTP: send it with an HTTP library"
    ),
    FrontError(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        "the token is missing or wrong: send the header Authorization: Bearer TOKEN "
        "(python -m traffic token prints one)",
        ('WWW-Authenticate "Bearer"',),
        grpc=16,
    ),
    FrontError(
        HTTPStatus.NOT_FOUND,
        "not_found",
        "there is no such model, version or path: send POST /predictions/NAME or /api/v1/get_pm",
        grpc=12,
    ),
    FrontError(
        HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "the path takes another method: send photos with POST"
    ),
    FrontError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body_too_large",
        "the body has more than {megabytes} MB: send fewer photos in one request",
        grpc=8,
    ),
    FrontError(HTTPStatus.REQUEST_URI_TOO_LONG, "uri_too_long", "the address is too long: send the photo in the body"),
    FrontError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "form_not_accepted",
        "the body is an urlencoded form: send JSON with the header Content-Type: application/json, "
        "the bytes of a photo, or a multipart form",
    ),
    FrontError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too_many_requests",
        "too many requests at once: send this one again later",
        RETRY,
        grpc=8,
    ),
    FrontError(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", "the headers have more than 32 KB: send fewer"
    ),
    FrontError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "the front could not store the request: try again, and report it",
    ),
    FrontError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unavailable",
        "no server can answer at the moment: send the request again later",
        RETRY,
        grpc=14,
    ),
    FrontError(
        HTTPStatus.GATEWAY_TIMEOUT,
        "no_answer_in_time",
        "the server did not answer in time: send the request again later",
        RETRY,
        grpc=4,
    ),
)
"""All of them; docs/api.md has a table, which a test compares with this one."""
