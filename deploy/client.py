"""What this project asks of TorchServe over HTTP, with time limits and clear errors."""

from typing import Any

import click
import requests

from deploy.keys import read_key
from deploy.settings import Settings

CONNECT_S = 5
ANSWER_S = 120


class Unreachable(click.ClickException):
    """Nothing answers at the address."""


class Client:
    """Inference and management of one TorchServe."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy between two programs on one machine

    def ask(self, address: str, method: str, path: str, **arguments: Any) -> requests.Response:
        """One request with the address's key.

        Args:
            address: `inference` or `management`.

        Raises:
            Unreachable: nothing listens, or no answer came in time.
        """
        headers = {"Authorization": f"Bearer {read_key(self.settings.var, address)}", **arguments.pop("headers", {})}
        url = self.settings.url(address)
        try:
            return self.session.request(method, url + path, headers=headers, timeout=(CONNECT_S, ANSWER_S), **arguments)
        except requests.ConnectionError as error:
            raise Unreachable(f"nothing answers at {url}: start the server with make serve") from error
        except requests.Timeout as error:
            raise Unreachable(f"{url} gave no answer within {ANSWER_S} s: see var/logs/ts_log.log") from error

    def manage(self, method: str, path: str, **arguments: Any) -> Any:
        """A management call that must succeed; its JSON.

        Raises:
            click.ClickException: with TorchServe's own message.
        """
        answer = self.ask("management", method, path, **arguments)
        if not answer.ok:
            raise click.ClickException(f"TorchServe refused {method} {path.partition('?')[0]}: {_message(answer)}")
        return answer.json()

    def predict(self, model: str, body: dict[str, Any]) -> requests.Response:
        """Post JSON to /predictions/MODEL, where MODEL may be NAME or NAME/VERSION."""
        return self.ask("inference", "POST", f"/predictions/{model}", json=body)

    def register(self, archive: str, name: str) -> None:
        """Register an archive of the store by its bare file name; returns when its worker is ready.

        Raises:
            click.ClickException: it was refused, or its worker did not start.
        """
        options = {"url": archive, "model_name": name, "initial_workers": 1, "synchronous": "true", "batch_size": 1}
        self.manage("POST", "/models", params=options)

    def models(self) -> list[dict[str, Any]]:
        """TorchServe's description of every registered version, with `default` added."""
        found = []
        for entry in self.manage("GET", "/models?limit=1000")["models"]:
            name = entry["modelName"]
            default = self.manage("GET", f"/models/{name}")[0]["modelVersion"]
            for version in self.manage("GET", f"/models/{name}/all"):
                found.append({**version, "default": version["modelVersion"] == default})
        return found


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"
