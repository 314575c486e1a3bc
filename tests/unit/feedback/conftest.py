"""Passwords that are quick to check, as the tests are not about the strength of argon2; a machine that publishes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from feedback.accounts import secrets
from tests.helpers.night.publishing import Publisher, publishing


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(secrets, "_hasher", quick)
    monkeypatch.setattr(secrets, "_NOBODY", quick.hash("nobody"))


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    (tmp_path / "trainer").mkdir()
    with publishing(tmp_path / "trainer") as running:
        yield running
