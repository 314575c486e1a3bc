"""What is known of a photo when it arrives: what the model answered, and why it is here."""

from dataclasses import dataclass
from typing import Any

from feedback.storage.tables import Upload


@dataclass(frozen=True)
class Answered:
    """A photo that the model has answered: what an upload stores."""

    data: bytes
    name: str
    model: str
    answer: dict[str, Any]
    milliseconds: float


@dataclass(frozen=True)
class Why:
    """Why a photo is here: `upload`, or a reason of the capture; and with which probability it was sampled."""

    reason: str = "upload"
    probability: float = 1.0


UPLOADED = Why()


def shown_name(name: str) -> str:
    """The last part of a file's name as it may be shown: printable, at most 200 characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(mark if mark.isprintable() else "?" for mark in last)[-200:] or "photo"


def upload_of(answered: Answered, account: int | None, visitor: str) -> Upload:
    """The row of an upload, without its photo."""
    return Upload(
        account_id=account,
        visitor=visitor,
        name=shown_name(answered.name),
        model=answered.model,
        version=str(answered.answer.get("model_version", "")),
        label=str(answered.answer.get("result", "")),
        confidence=float(answered.answer.get("confidence", 0.0)),
        answer=answered.answer,
        milliseconds=answered.milliseconds,
    )
