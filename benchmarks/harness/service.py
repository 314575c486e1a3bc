"""One archive on a TorchServe of a benchmark's own, without a keeper."""

from pathlib import Path

from common.errors import UserError
from deploy.store.mar import served_version
from deploy.store.profile import ServingOptions
from deploy.torchserve.probes import example
from deploy.torchserve.process import Server


def put_in_service(server: Server, mar: Path) -> None:
    """Register an archive, and prove that its version answers a golden photo rightly.

    Raises:
        UserError: it was refused, its worker did not start, or the answer is wrong.
    """
    entry = served_version(mar)
    try:
        server.client.register(mar.name, entry.name, ServingOptions(entry.workers))
    except UserError as error:
        raise UserError(f"{mar.name}: {error.message}\n{server.why_no_worker()}") from error
    question = example(mar)
    answer = server.client.predict(f"{entry.name}/{entry.version}", question.body)
    if not answer.ok or answer.json().get("result") != question.golden.label:
        raise UserError(f"{mar.name} answers {answer.text[:200]} to a photo of {question.golden.label}: not measured")
