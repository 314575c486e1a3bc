"""What an attacker tries: other people's results, forged forms, sessions, scripts and paths in names, SQL, links."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from feedback.accounts.limits import RateLimit
from feedback.delivery.download import allowed
from feedback.web.app import application
from feedback.web.guards import SESSION, SMALL_BODY
from feedback.web.site import Site
from tests.helpers.feedback import ORIGIN, PASSWORD, Browser, FixedClassifier, jpeg, site_in

NASTY = (
    "../../../etc/passwd",
    "..\\..\\boot.ini",
    "/etc/passwd",
    "<script>alert(1)</script>.jpg",
    '"><img src=x onerror=alert(1)>.jpg',
    "'; DROP TABLE photo; --.jpg",
    "\x00\r\nSet-Cookie: a=b.jpg",
    "a" * 600 + ".jpg",
    "{{ 7 * 7 }}.jpg",
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return site_in(tmp_path)


@pytest.mark.parametrize("name", NASTY)
def test_names_of_files_are_shown_as_text_and_never_used_as_paths(name: str, site: Site, tmp_path: Path) -> None:
    ann = Browser(site).signed_in("ann")
    result = ann.upload(jpeg(1), name)
    page = ann.get(f"/results/{result}").text + ann.get("/mine").text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "49.jpg" not in page
    stored = [path for path in (tmp_path / "feedback" / "photos").rglob("*") if path.is_file()]
    assert [re.fullmatch(r"[0-9a-f]{32}\.jpg", path.name) is not None for path in stored] == [True]


def test_labels_with_markup_are_shown_as_text(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FixedClassifier, "labels", ("<b>one</b>", '" onclick="x'))
    ann, ben = Browser(site).signed_in("ann"), Browser(site).signed_in("ben", "reviewer")
    result = ann.upload(jpeg(1))
    assert ann.post(f"/results/{result}", label='label:" onclick="x').status_code == 303
    for page in (ann.get(f"/results/{result}").text, ben.get("/review").text, ann.get("/mine").text):
        assert "<b>one</b>" not in page
        assert '" onclick="x' not in page


def test_another_persons_result_and_photo_are_not_found(site: Site) -> None:
    ann, eve = Browser(site).signed_in("ann"), Browser(site).signed_in("eve")
    result = ann.upload(jpeg(1))
    url = re.search(r'src="(/uploads/[^"]+)"', ann.get(f"/results/{result}").text)
    assert url
    assert ann.get(url[1]).status_code == 200
    for path in (
        f"/results/{result}",
        f"/results{result}",
        url[1],
        f"/results/{2**70}",
        "/uploads/..%2f..%2ffeedback.db",
    ):
        assert eve.get(path).status_code == 404, path
        assert Browser(site).get(path).status_code == 404, path
    assert eve.post(f"/results/{result}", label="label:square").status_code == 404
    assert eve.get("/statistics").status_code == 403
    assert eve.post("/review/1", decision="label:square").status_code == 403
    assert Browser(site).get("/review").headers["location"] == "/login"
    assert eve.get("/user-labels").status_code == 403
    assert Browser(site).get("/user-labels").status_code == 401


@pytest.mark.parametrize(
    ("headers", "csrf"),
    [
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Origin": ORIGIN}, False),
        ({}, False),
    ],
)
def test_forms_of_other_sites_are_refused(headers: dict[str, str], csrf: bool, site: Site) -> None:
    ann = Browser(site).signed_in("ann")
    result = ann.upload(jpeg(1))
    token = {"csrf": ann.csrf()} if csrf else {}
    for path, fields in ((f"/results/{result}", {"label": "label:square"}), ("/logout", {}), ("/upload_image", {})):
        assert ann.client.post(path, data={**token, **fields}, headers=headers).status_code == 403, path
    assert "You said" not in ann.get(f"/results/{result}").text


def test_a_token_of_another_session_does_not_help(site: Site) -> None:
    ann, eve = Browser(site).signed_in("ann"), Browser(site).signed_in("eve")
    answer = ann.client.post("/logout", data={"csrf": eve.csrf()}, headers={"Origin": ORIGIN})
    assert answer.status_code == 403


def test_a_session_is_new_after_signing_in_and_ends_at_signing_out(site: Site) -> None:
    ann = Browser(site)
    ann.client.cookies.set(SESSION, "chosen-by-an-attacker")
    ann.signed_in("ann")
    secret = ann.client.cookies.get(SESSION, domain="testserver.local")
    assert secret != "chosen-by-an-attacker"
    ann.post("/logout")
    stolen = TestClient(application(site), ORIGIN, follow_redirects=False, cookies={SESSION: secret or ""})
    assert stolen.get("/mine").headers["location"] == "/login"


def test_cookies_are_hidden_from_scripts_and_secure_over_https(site: Site) -> None:
    site.people.add("ann", "uploader", PASSWORD)
    secure = TestClient(application(site), "https://testserver", follow_redirects=False)
    page = secure.get("/login")
    assert "HttpOnly; Max-Age" in page.headers["set-cookie"]
    csrf = re.search(r'name="csrf" value="(\w+)"', page.text)
    assert csrf
    answer = secure.post("/login", data={"csrf": csrf[1], "name": "ann", "password": PASSWORD})
    assert "Secure" in answer.headers["set-cookie"]
    assert "SameSite=lax" in answer.headers["set-cookie"]


def test_passwords_cannot_be_guessed_quickly(site: Site) -> None:
    site.people.add("ann", "uploader", PASSWORD)
    eve = Browser(site)
    statuses = [eve.post("/login", name="ann", password="a wrong password").status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    assert eve.post("/login", name="ann", password=PASSWORD).status_code == 429


def test_a_rate_limit_forgets_after_its_time() -> None:
    now = [0.0]
    limit = RateLimit(2, 60, lambda: now[0])
    assert [limit.allow("a"), limit.allow("a"), limit.allow("a"), limit.allow("b")] == [True, True, False, True]
    now[0] = 61
    assert limit.allow("a")


SQL = ("' OR 1=1 --", "1; DROP TABLE photo", "\x00", "💥", "x" * 10_000, "%s", "-1", "NaN")


@pytest.mark.slow
def test_no_field_reaches_the_database_as_code_and_none_breaks_the_server(site: Site) -> None:
    ann = Browser(site).signed_in("ann", "admin")
    result = ann.upload(jpeg(1))
    for text in SQL:
        assert [answer.status_code for answer in everything(ann, result, text) if answer.status_code >= 500] == []
    assert ann.get(f"/results/{result}").status_code == 200


def everything(ann: Browser, result: int, text: str) -> list[Any]:
    """Requests with a text in every field."""
    token = text.encode("ascii", "ignore").decode().strip(chr(0))
    return [
        ann.post("/login", name=text, password=text),
        ann.post("/first", key=text, name=text, password=text),
        ann.post(f"/results/{result}", label=text),
        ann.post("/review/1", decision=text),
        ann.post("/model", link=text, name=text, version=text, ckpt_name=text),
        ann.client.get("/mine", params={"before": text}),
        ann.client.get("/review", params={"skip": text}),
        ann.client.get("/user-labels", params={"after": text}),
        ann.client.get("/mine", headers={"Authorization": f"Bearer {token}"}),
        ann.client.get(f"/uploads/{quote(text, safe='')}"),
    ]


def test_a_large_body_is_refused_while_it_arrives(site: Site) -> None:
    ann = Browser(site).signed_in("ann")
    answer = ann.post("/results/1", label="x" * (SMALL_BODY + 1))
    assert answer.status_code == 413


def test_pages_carry_the_security_headers(site: Site) -> None:
    headers = Browser(site).get("/login").headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"  # else browsers send Origin: null with our own forms
    assert headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "link",
    [
        "http://127.0.0.1:8081/shapes-2.0.mar",
        "http://trainer:8181.evil.example/shapes-2.0.mar",
        "http://trainer:8181@evil.example/shapes-2.0.mar",
        "http://trainer:8181/models/../../shapes-2.0.mar",
        "http://trainer:8181/models/shapes-2.0.mar?x=1",
        "file:///etc/passwd.mar",
        "http://trainer:8181/models/shapes-2.0.exe",
        "",
    ],
)
def test_a_version_is_only_announced_from_an_allowed_prefix(link: str, tmp_path: Path) -> None:
    site = site_in(tmp_path, FEEDBACK_LINKS="http://trainer:8181/models")
    headers = {"Authorization": f"Bearer {site.people.add_token('trainer', 'models')}"}
    row = {"ckpt_name": "2026-11-26", "version": "2", "name": "shapes"}
    client = TestClient(application(site), ORIGIN)
    assert client.post("/model", data={**row, "link": link}, headers=headers).status_code == 403
    assert client.get("/model", headers=headers).status_code == 404
    assert allowed("http://trainer:8181/models/shapes-2.0.mar", site.settings.links)


def test_machines_may_only_do_what_their_scope_says(site: Site) -> None:
    client = TestClient(application(site), ORIGIN, follow_redirects=False)
    labels = {"Authorization": f"Bearer {site.people.add_token('trainer', 'labels')}"}
    models = {"Authorization": f"Bearer {site.people.add_token('trainer', 'models')}"}
    assert client.get("/user-labels", headers=labels).status_code == 200
    assert client.get("/user-labels", headers=models).status_code == 403
    assert client.post("/model", headers=labels).status_code == 403
    assert client.get("/review", headers=labels).status_code == 403
    assert client.get("/user-labels", headers={"Authorization": "Bearer wrong"}).status_code == 401
