"""What the serving machine refuses to download or to roll out: nothing of it reaches the store or TorchServe."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import AlreadyExists, InvalidInput, NotFound, UserError
from feedback.delivery.courier import Courier
from feedback.delivery.keys import distrust, make_key, trust, trusted
from feedback.delivery.release import Rejected, sign
from feedback.storage.tables import Model
from feedback.web.site import Site
from tests.helpers.feedback import Browser, site_in
from tests.helpers.night.publishing import Publisher, announced, change_signed, trusting


@pytest.fixture
def site(tmp_path: Path, publisher: Publisher) -> Site:
    links = f"{publisher.url}/models http://trainer.test/models"
    site = site_in(tmp_path / "var", FEEDBACK_LINKS=links, SERVE_STORE=str(tmp_path / "store"))
    (tmp_path / "store").mkdir()
    trusting(site, publisher)
    return site


def stored(site: Site) -> list[str]:
    return sorted(path.name for path in site.settings.store.iterdir())


def longer(publisher: Publisher) -> str:
    mar = publisher.archive()
    mar.write_bytes(mar.read_bytes() + b"x")
    return publisher.link(mar)


def shorter(publisher: Publisher) -> str:
    mar = publisher.archive()
    mar.write_bytes(mar.read_bytes()[:-1])
    return publisher.link(mar)


def changed(publisher: Publisher) -> str:
    mar = publisher.archive()
    mar.write_bytes(mar.read_bytes()[:-1] + b"x")
    return publisher.link(mar)


def other_manifest(publisher: Publisher) -> str:
    mar = publisher.archive()
    mar.with_suffix(".json").write_text("[]")
    return publisher.link(mar)


def forged(publisher: Publisher) -> str:
    mar = publisher.archive()
    change_signed(mar, version="2.0", name="shapes", manifest={})
    return publisher.link(mar)


def of_another_key(publisher: Publisher) -> str:
    other = publisher.key.with_name("other.key")
    make_key(other)
    publisher.key = other
    return publisher.link(publisher.archive())


def of_another_version(publisher: Publisher) -> str:
    """An old signature for an archive that is sent again as a new version."""
    mar = publisher.archive(version=1)
    for path in list(mar.parent.glob("shapes-1.0.*")):
        path.rename(path.with_name(path.name.replace("-1.0", "-2.0")))
    return publisher.link(mar.with_name("shapes-2.0.mar"))


REFUSED: dict[str, tuple[Callable[[Publisher], str], str]] = {
    "unsigned": (lambda here: here.link(here.archive(sign_it=False)), "answers 404"),
    "another key": (of_another_key, "not trusted"),
    "forged": (forged, "the signature is wrong"),
    "another version": (of_another_version, "the signed files are not those"),
    "longer": (longer, r"has more than \d+ bytes"),
    "shorter": (shorter, "bytes were signed|were signed"),
    "changed": (changed, "another SHA-256"),
    "manifest changed": (other_manifest, "another SHA-256|were signed"),
    "leads out": (lambda here: here.link(here.archive(extra="../../evil.py")), "leads out of its folder"),
    "absolute": (lambda here: here.link(here.archive(extra="/etc/cron.d/evil")), "leads out of its folder"),
    "redirect": (lambda here: here.link(here.archive(), "models/away"), "answers 302"),
    "foreign": (lambda here: "http://elsewhere.test/models/shapes-2.0.mar", "outside of FEEDBACK_LINKS"),
    "parent": (lambda here: f"{here.url}/models/../shapes-2.0.mar", "outside of FEEDBACK_LINKS"),
    "file": (lambda here: "file:///models/shapes-2.0.mar", "outside of FEEDBACK_LINKS"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_version_is_refused_with_the_reason_and_nothing_is_stored(
    kind: str, site: Site, publisher: Publisher
) -> None:
    make_link, reason = REFUSED[kind]
    announced(site, make_link(publisher))
    courier = Courier(site.settings, site.database)
    (model,) = courier.waiting()
    with pytest.raises(Rejected, match=reason):
        courier.deliver(model)
    assert stored(site) == []
    assert list((site.settings.folder / "incoming").glob("*/*")) == []
    assert courier.waiting() == []
    ben = Browser(site).signed_in("ben", "reviewer")
    page = ben.get("/versions").text
    assert "shapes 2: refused" in page
    assert 'feedback_versions{model="shapes",state="refused"} 1.0' in ben.get("/metrics").text


def test_a_name_that_leads_to_this_machine_is_refused(
    site: Site, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = publisher.url.rpartition(":")[2]
    found = [(2, 1, 6, "", ("127.0.0.1", int(port)))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    publisher.archive()
    model = announced(site, "http://trainer.test/models/shapes-2.0.mar")
    with pytest.raises(Rejected, match=r"trainer\.test is 127\.0\.0\.1"):
        Courier(site.settings, site.database).deliver(model)


def test_another_archive_with_this_name_in_the_store_stays(site: Site, publisher: Publisher) -> None:
    (site.settings.store / "shapes-2.0.mar").write_bytes(b"mine")
    model = announced(site, publisher.link(publisher.archive()))
    with pytest.raises(Rejected, match="announce a new version"):
        Courier(site.settings, site.database).deliver(model)
    assert (site.settings.store / "shapes-2.0.mar").read_bytes() == b"mine"


@pytest.mark.slow
def test_a_rollout_that_refuses_leaves_the_store_as_it_was(site: Site, publisher: Publisher) -> None:
    """The archive is signed and complete, but no TorchServe runs here."""
    model = announced(site, publisher.link(publisher.archive()))
    with pytest.raises(Rejected, match="rollout: "):
        Courier(site.settings, site.database).deliver(model)
    assert stored(site) == []


def test_without_a_trusted_key_nothing_is_downloaded_and_the_version_waits(site: Site, publisher: Publisher) -> None:
    distrust(site.settings.folder, publisher.public)
    courier = Courier(site.settings, site.database)
    model = announced(site, publisher.link(publisher.archive()))
    with pytest.raises(InvalidInput, match="no key is trusted"):
        courier.deliver(model)
    assert [row.id for row in courier.waiting()] == [model.id]


def test_only_the_newest_version_of_a_model_is_delivered(site: Site) -> None:
    for name, version in (("shapes", 2), ("shapes", 4), ("shapes", 3), ("other", 1)):
        announced(site, "http://trainer.test/models/x.mar", name, version)
    waiting = Courier(site.settings, site.database).waiting()
    assert {(model.name, model.version) for model in waiting} == {("shapes", 4), ("other", 1)}
    with site.database.begin() as session:
        assert [session.get_one(Model, number).state for number in (1, 3)] == ["superseded"] * 2


def test_keys_are_made_once_trusted_and_distrusted(tmp_path: Path) -> None:
    path = tmp_path / "trainer.key"
    public = make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(AlreadyExists):
        make_key(path)
    for _ in range(2):
        trust(tmp_path, public)
    assert trusted(tmp_path) == (public,)
    distrust(tmp_path, public)
    assert trusted(tmp_path) == ()
    with pytest.raises(NotFound):
        distrust(tmp_path, public)
    for text in ("", "AAAA", "no key", public[:-4]):
        with pytest.raises(UserError, match="is not a public key"):
            trust(tmp_path, text)


def test_a_release_names_its_archive(publisher: Publisher) -> None:
    from feedback.delivery.keys import read_key
    from feedback.delivery.release import verified

    signed = sign(publisher.archive(version=7), read_key(publisher.key))
    release = verified(signed.read_bytes(), [publisher.public])
    assert (release.name, release.version, release.archive.name) == ("shapes", "7.0", "shapes-7.0.mar")
