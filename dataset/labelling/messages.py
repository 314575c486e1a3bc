"""The page's requests and error answers: read a value of a body, and turn an error into `{"error": {...}}`."""

import os
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse, Response

from common.errors import NotFound, UserError
from dataset.labelling.decisions import Conflict
from dataset.labelling.outside import TableInvalid


class Refusal(Exception):
    """An error answer."""

    def __init__(self, status: HTTPStatus, code: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.status, self.content = status, {"code": code, "message": message, **details}


def shown(name: str) -> str:
    """A file's name as valid Unicode, also if it is not UTF-8 on disk."""
    return os.fsencode(name).decode("utf-8", "replace")


def with_refusals(work: Callable[[dict[str, Any]], dict[str, Any]], body: dict[str, Any]) -> dict[str, Any]:
    """Turn the errors of the queue into answers that the page can act on."""
    try:
        return work(body)
    except Conflict as error:
        details = {"name": shown(error.name), "who": error.who, "what": str(error.what)}
        raise Refusal(HTTPStatus.CONFLICT, "conflict", shown(str(error)), **details) from error
    except LookupError as error:
        raise Refusal(HTTPStatus.CONFLICT, "nothing_to_undo", str(error.args[0])) from error
    except ValueError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "invalid_request", str(error)) from error
    except TableInvalid as error:
        raise Refusal(HTTPStatus.CONFLICT, "table_invalid", shown(error.message)) from error
    except NotFound as error:
        raise Refusal(HTTPStatus.GONE, "no_file", shown(error.message)) from error
    except UserError as error:
        raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "not_written", shown(error.message)) from error


def error_answer(refusal: Refusal) -> Response:
    """An error as an answer that is not cached."""
    return JSONResponse({"error": refusal.content}, refusal.status, headers={"Cache-Control": "no-store"})


def client_of(body: dict[str, Any]) -> str:
    """The browser tab that asks. Raises: ValueError: it names none."""
    client = body.get("client")
    if not isinstance(client, str) or not re.fullmatch(r"[\w-]{8,64}", client, re.ASCII):
        raise ValueError(f"client is {client!r:.80}: send 8 to 64 letters, digits, - or _")
    return client


def number_of(body: dict[str, Any], key: str) -> int:
    """Raises: ValueError: the value is not an integer."""
    value = body.get(key)
    if type(value) is not int:
        raise ValueError(f"{key} is {value!r:.80}: send an integer")
    return value


def name_of(body: dict[str, Any]) -> str:
    """A photo's name, which may hold any character. Raises: ValueError: it is not a text."""
    name = body.get("name")
    if not isinstance(name, str):
        raise ValueError(f"name is {name!r:.80}: send the name of a photo")
    return name


def text_of(body: dict[str, Any], key: str, most: int = 100) -> str:
    """A text of one line, empty if it is missing. Raises: ValueError: it is longer, or something else."""
    value = body.get(key, "")
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise ValueError(f"{key} is {value!r:.80}: send at most {most} printable characters")
    return value
