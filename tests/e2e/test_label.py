"""The labelling page in a real browser: by keyboard, with a screen reader, on a phone, and by two people at once."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.recipe import read_recipe
from dataset.tables import read_rows
from tests.helpers.commands import SHAPES, SHIPPED
from tests.helpers.labelling import BEN, Serving, numbered, photos, serving, table
from tests.helpers.running.browser import running_browser

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: run make test")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: run make test")
expect = sync_api.expect

LABELS = read_recipe(SHAPES).labels
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
# Adds up the layout shifts (CLS), with those right after an input, which the metric leaves out.
JUMPS = """window.jumps = 0; new PerformanceObserver((list) => { for (const shift of list.getEntries())
    window.jumps += shift.value; }).observe({ type: "layout-shift", buffered: true });"""

PLACES = """[...document.querySelectorAll("#work button:not(.absent), footer label")].map((element) => {
    const { left, top, right, bottom } = element.getBoundingClientRect();
    return { of: element.closest("main, footer").localName, left, top, right, bottom }; })"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as running:
        yield running


@pytest.fixture(autouse=True)
def _closed(browser: Any) -> Iterator[None]:
    """A page that stayed open would look for its server until the last test."""
    yield
    for context in browser.contexts:
        context.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    with serving(numbered(tmp_path, 4), "--by", "ann") as running:
        yield running


def opened(browser: Any, server: Serving, path: str = "", **options: object) -> Any:
    """Open the page; a script error, or a request to another server, fails the test."""
    page = browser.new_context(**options).new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.add_init_script(JUMPS)
    page.on("request", lambda request: None if request.url.startswith(server.url) else pytest.fail(request.url))
    page.set_default_timeout(20_000)
    expect.set_options(timeout=20_000)  # the model may still be loading while other tests use the cores
    page.goto(server.url + path)
    ready(page)
    return page


def ready(page: Any) -> None:
    page.wait_for_selector("body[data-state=ready]")


def press(page: Any, key: str) -> None:
    """Press a key and wait for its effect."""
    ready(page)
    page.keyboard.press(key)
    ready(page)


def test_photos_are_labelled_by_keys_and_the_last_page_shows_the_next_command(browser: Any, server: Serving) -> None:
    page = opened(browser, server)
    folder = Path(server.state["table"]).parent
    expect(page.locator("figcaption")).to_have_text("000.png")
    press(page, "2")
    expect(page.get_by_role("status")).to_have_text(f"000.png: {LABELS[1]}. Next: 001.png.")
    expect(page.get_by_text("1 of 4 labelled, 0 set aside").first).to_be_visible()
    assert table(folder)["000.png"] == LABELS[1]
    press(page, "b")
    expect(page.get_by_role("status")).to_contain_text("001.png: set aside as broken.")
    press(page, "z")
    expect(page.get_by_role("status")).to_have_text("001.png: decision undone. Next: 001.png.")
    assert table(folder) == {"000.png": LABELS[1], "001.png": "", "002.png": "", "003.png": ""}
    press(page, "u")
    press(page, "s")
    expect(page.locator("figcaption")).to_have_text("003.png")
    press(page, "3")
    press(page, "1")
    expect(page.get_by_role("heading", name="All photos are done")).to_be_focused()
    expect(page.locator("#done")).to_contain_text("3 of 4 labelled, 1 set aside")
    expect(page.locator("#next")).to_contain_text(f"python -m dataset stats {folder}/labels.tsv --recipe {SHAPES}")
    assert table(folder) == {"000.png": LABELS[1], "001.png": "unclear", "002.png": LABELS[0], "003.png": LABELS[2]}
    press(page, "z")
    expect(page.locator("figcaption")).to_have_text("002.png")
    assert table(folder)["002.png"] == ""


def strike(page: Any, key: str, code: str) -> None:
    """Press a key of another layout: it gives the character `key`, and `code` is the key's place."""
    ready(page)
    script = "([key, code]) => document.body.dispatchEvent(new KeyboardEvent('keydown', {key, code, bubbles: true}))"
    page.evaluate(script, [key, code])
    ready(page)


def test_keys_work_on_other_keyboards(browser: Any, server: Serving) -> None:
    page = opened(browser, server)
    folder = Path(server.state["table"]).parent
    strike(page, "é", "Digit2")  # French
    expect(page.get_by_role("status")).to_have_text(f"000.png: {LABELS[1]}. Next: 001.png.")
    strike(page, "я", "KeyZ")  # Russian
    expect(page.get_by_role("status")).to_have_text("000.png: decision undone. Next: 000.png.")
    strike(page, "ㅠ", "KeyB")  # Korean
    expect(page.get_by_role("status")).to_contain_text("000.png: set aside as broken.")
    strike(page, "z", "KeyW")  # French: the character counts, not the place
    expect(page.get_by_role("status")).to_have_text("000.png: decision undone. Next: 000.png.")
    strike(page, "w", "KeyZ")
    strike(page, "3", "Numpad3")
    expect(page.get_by_role("status")).to_have_text(f"000.png: {LABELS[2]}. Next: 001.png.")
    assert table(folder)["000.png"] == LABELS[2]
    strike(page, "+", "Digit1")  # Czech: it would enlarge the photo
    expect(page.get_by_role("status")).to_have_text(f"001.png: {LABELS[0]}. Next: 002.png.")


def scale(page: Any) -> float:
    """How much the photo is enlarged."""
    size = page.locator("#photo").evaluate("photo => photo.getBoundingClientRect().width / photo.offsetWidth")
    return round(float(size), 2)


def test_a_photo_is_enlarged_by_click_wheel_keys_and_buttons(browser: Any, server: Serving) -> None:
    page = opened(browser, server)
    photo = page.locator("#photo")
    before = page.locator("#stage").bounding_box()
    photo.click(position={"x": 200, "y": 60})
    assert scale(page) == 3
    assert page.locator("#stage").bounding_box() == before
    left = photo.bounding_box()["x"]
    page.keyboard.press("ArrowRight")  # moves the enlarged photo instead of skipping it
    assert photo.bounding_box()["x"] < left
    expect(page.locator("figcaption")).to_have_text("000.png")
    page.mouse.click(600, 300)
    assert scale(page) == 1
    page.mouse.wheel(0, -300)
    assert scale(page) > 1.5
    page.keyboard.press("0")
    assert scale(page) == 1
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert scale(page) == 2.25
    strike(page, "ß", "Minus")  # German: the key right of 0
    assert scale(page) == 1.5
    page.get_by_role("button", name="Zoom in").click()
    assert scale(page) == 2.25
    box = photo.bounding_box()
    page.mouse.move(300, 300)
    page.mouse.down()
    page.mouse.move(250, 280, steps=4)
    page.mouse.up()
    assert (photo.bounding_box()["x"], scale(page)) == (box["x"] - 50, 2.25)  # dragging is no click
    press(page, "1")
    expect(page.locator("figcaption")).to_have_text("001.png")
    assert scale(page) == 1


def test_every_control_has_a_role_and_a_name(browser: Any, server: Serving) -> None:
    page = opened(browser, server)
    assert page.get_by_role("img", name="Photo 000.png").evaluate("photo => photo.naturalWidth") == 64
    bar = page.get_by_role("progressbar", name="0 of 4 labelled, 0 set aside")
    assert (bar.get_attribute("max"), bar.get_attribute("value")) == ("4", "0")
    page.get_by_role("group", name="Set aside").get_by_role("button", name="unclear").click()
    expect(page.locator("figcaption")).to_have_text("001.png")
    ready(page)
    group = page.get_by_role("group", name="Label", exact=True)
    texts = [*(f"{name}{key}" for key, name in enumerate(LABELS, 1)), "no classn"]
    assert group.get_by_role("button").all_text_contents() == texts
    for key, name in enumerate(LABELS, 1):
        assert group.get_by_role("button", name=name, exact=True).get_attribute("aria-keyshortcuts") == str(key)
    page.keyboard.press("Tab")  # continues from the clicked button: everything can be reached without a mouse
    reached = []
    for _ in range(17):
        reached.append(page.evaluate("document.activeElement.innerText || document.activeElement.id"))
        page.keyboard.press("Tab")
    assert {"undo", "skip", "by", "keys"} <= {word.split("\n")[0].lower() for word in reached}
    page.get_by_role("button", name=LABELS[0], exact=True).focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("figcaption")).to_have_text("002.png")
    expect(page.get_by_role("button", name=LABELS[0], exact=True)).to_be_focused()
    press(page, "ArrowRight")
    expect(page.locator("figcaption")).to_have_text("003.png")
    assert page.evaluate("[...document.querySelectorAll('button, input')].every(e => e.tabIndex === 0)")


def faults(page: Any) -> list[str]:
    """What axe-core finds of serious or critical impact (WCAG 2, A and AA, and its best practices)."""
    page.wait_for_timeout(250)  # colours fade for 120 ms
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html']}: {node['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize(("scheme", "size"), [("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE), ("dark", PHONE)])
def test_the_page_is_accessible_and_nothing_jumps(browser: Any, server: Serving, scheme: str, size: Any) -> None:
    page = opened(browser, server, color_scheme=scheme, viewport=size, reduced_motion="reduce")
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (scheme == "dark") == dark == (ground == "rgb(22, 24, 27)")
    assert faults(page) == []
    press(page, "1")
    page.keyboard.press("+")
    press(page, "z")
    page.keyboard.press("/")
    expect(page.get_by_role("dialog", name="All photos").get_by_role("listitem")).to_have_count(4)
    assert faults(page) == []
    page.keyboard.press("Escape")
    server.post("decide", BEN, id=0, revision=2, label=LABELS[2], by="ben")
    press(page, "2")
    expect(page.get_by_role("alert")).to_be_visible()
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("window.jumps") == 0
    press(page, "n")
    press(page, "n")
    expect(page.get_by_role("heading", name="Other people have the remaining photos open")).to_be_visible()
    server.post("decide", BEN, id=1, revision=0, label=LABELS[2], by="ben")
    expect(page.get_by_role("heading", name="All photos are done")).to_be_visible()
    assert faults(page) == []


@pytest.mark.parametrize(("width", "height"), [(360, 640), (600, 800), (800, 500), (1200, 600)])
def test_long_names_move_no_button_and_nothing_overlaps(browser: Any, tmp_path: Path, width: int, height: int) -> None:
    photos(tmp_path, *(f"{number}_{'a-very-long-name__' * number}.png" for number in range(1, 5)))
    with serving(tmp_path, "--by", "ann") as server:
        page = opened(browser, server, viewport={"width": width, "height": height})
        places = page.evaluate(PLACES)
        for key in ("s", "1", "2", "z"):
            press(page, key)
            assert page.evaluate(PLACES) == places
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("window.jumps") == 0
        lowest = max(place["bottom"] for place in places if place["of"] == "main")
        assert lowest <= page.evaluate("document.querySelector('footer').getBoundingClientRect().top")


def test_a_photo_is_found_in_the_list_and_changed_by_keyboard_alone(browser: Any, server: Serving) -> None:
    page = opened(browser, server)
    folder = Path(server.state["table"]).parent
    for key in "12n":
        press(page, key)
    group = page.get_by_role("group", name="Label", exact=True)
    assert [button.get_attribute("data-count") for button in group.get_by_role("button").all()] == ["1", "1", "0", "1"]
    expect(page.locator("#left")).to_have_text("1 left")
    page.keyboard.press("/")
    dialog = page.get_by_role("dialog", name="All photos")
    expect(dialog.get_by_label("Search")).to_be_focused()
    expect(dialog.get_by_role("status")).to_have_text("4 photos")
    page.keyboard.type("002")  # digits and letters are typed, not decisions
    expect(dialog.get_by_role("status")).to_have_text("1 photo")
    expect(dialog.get_by_role("listitem")).to_contain_text("002.png")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Delete")
    expect(dialog.get_by_role("status")).to_have_text("4 photos")
    assert dialog.get_by_label("Show").locator("option").all_text_contents() == [
        "all (4)",
        "not labelled yet (1)",
        *(f"{label} ({count})" for label, count in zip(LABELS, (1, 1, 0), strict=True)),
        "no class (1)",
        "set aside as broken (0)",
        "set aside as unclear (0)",
    ]
    dialog.get_by_label("Show").select_option("no class (1)")
    expect(dialog.get_by_role("status")).to_have_text("1 photo")
    expect(dialog.get_by_role("listitem")).to_have_text("002.pngno class (ann)")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    ready(page)
    expect(page.locator("figcaption")).to_have_text("002.png")
    expect(page.locator("#suggestion")).to_contain_text("labelled: no class (ann)")
    expect(page.get_by_role("button", name="no class")).to_have_attribute("aria-pressed", "true")
    assert page.url == f"{server.url}/?photo=002.png"
    press(page, "Enter")  # there is no suggestion to accept
    press(page, "3")
    assert table(folder)["002.png"] == LABELS[2]
    expect(dialog.get_by_role("status")).to_have_text("0 photos")  # the list as it was left
    page.keyboard.press("Escape")
    expect(page.locator("figcaption")).to_have_text("003.png")
    assert page.url == f"{server.url}/"
    press(page, "z")
    assert table(folder) == {"000.png": LABELS[0], "001.png": LABELS[1], "002.png": "no_class", "003.png": ""}


def test_a_key_right_after_the_list_was_closed_is_not_lost(browser: Any, server: Serving) -> None:
    """Until the next frame the hidden search keeps the focus; both happen in one task here."""
    page = opened(browser, server)
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.evaluate("""() => {
        document.getElementById("list").close();
        const key = new KeyboardEvent("keydown", { key: "2", code: "Digit2", bubbles: true });
        document.getElementById("search").dispatchEvent(key); }""")
    expect(page.get_by_role("status").first).to_have_text(f"000.png: {LABELS[1]}. Next: 001.png.")


def test_a_link_opens_one_photo(browser: Any, tmp_path: Path) -> None:
    photos(tmp_path, "a.png", "sub/ü &?#%.png", "z.png")
    with serving(tmp_path) as server:
        server.post("decide", BEN, id=1, revision=0, label=LABELS[1], by="ben")
        page = opened(browser, server, "/?photo=sub/u%CC%88%20%26%3F%23%25.png")
        expect(page.locator("figcaption")).to_have_text("sub/ü &?#%.png")
        expect(page.locator("#suggestion")).to_contain_text(f"labelled: {LABELS[1]} (ben)")
        page.goto(page.get_by_role("link", name="sub/ü &?#%.png").evaluate("link => link.href"))
        ready(page)
        expect(page.locator("figcaption")).to_have_text("sub/ü &?#%.png")
        press(page, "Escape")
        expect(page.locator("figcaption")).to_have_text("z.png")  # ben has a.png
        page.goto(f"{server.url}/?photo=none.png")
        ready(page)
        expect(page.get_by_role("alert")).to_contain_text("there is no photo none.png in")
        expect(page.locator("figcaption")).to_have_text("z.png")
        page.keyboard.press("/")
        page.get_by_role("dialog").get_by_role("button", name="a.png").click()
        ready(page)
        page.go_back()
        ready(page)
        expect(page.locator("figcaption")).to_have_text("z.png")


def test_the_page_goes_on_after_another_program_changed_the_table(browser: Any, server: Serving) -> None:
    page = opened(browser, server)
    path = Path(server.state["table"])
    press(page, "1")
    old = path.read_text()
    press(page, "2")
    path.write_text(old.replace("002.png\t", f"002.png\t{LABELS[2]}"))  # opened before the last decision, saved now
    press(page, "2")  # for 002.png, which is shown
    expect(page.get_by_role("alert")).to_contain_text(f"002.png: somebody chose {LABELS[2]} in the meantime")
    expect(page.locator("figcaption")).to_have_text("003.png")
    assert table(path.parent) == {"000.png": LABELS[0], "001.png": LABELS[1], "002.png": LABELS[2], "003.png": ""}
    good = path.read_text()
    path.write_text(good.replace(f"\t{LABELS[2]}\t", "\tsquare\t"))
    press(page, "1")
    expect(page.get_by_role("alert")).to_contain_text("another program has changed the table; ")
    expect(page.get_by_role("alert")).to_contain_text("unknown label square")
    assert "square" in path.read_text()
    path.write_text(good)
    expect(page.get_by_role("alert")).not_to_contain_text("unknown label square")  # without a reload
    press(page, "1")
    expect(page.get_by_role("heading", name="All photos are done")).to_be_visible()
    assert list(table(path.parent).values()) == [LABELS[0], LABELS[1], LABELS[2], LABELS[0]]


def test_browser_shortcuts_and_typing_do_not_label(browser: Any, server: Serving) -> None:
    page = opened(browser, server)
    for keys in ("Control+1", "Alt+1", "Meta+1", "Control+z"):
        page.keyboard.press(keys)
    page.get_by_label("Labelled by").fill("")
    page.get_by_label("Labelled by").press_sequentially("bus 1")
    page.get_by_label("Keyboard shortcuts").uncheck()
    page.keyboard.press("1")
    page.wait_for_timeout(300)
    folder = Path(server.state["table"]).parent
    assert not any(table(folder).values())
    page.get_by_label("Keyboard shortcuts").check()
    page.evaluate("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '1', repeat: true, bubbles: true}))")
    page.wait_for_timeout(300)
    assert not any(table(folder).values())
    press(page, "1")
    assert [row["labelled_by"] for row in read_rows(folder / "labels.tsv")] == ["bus 1", "", "", ""]


def test_a_second_person_gets_another_photo_and_a_reload_keeps_it(browser: Any, server: Serving) -> None:
    ann, ben = opened(browser, server), opened(browser, server)
    expect(ann.locator("figcaption")).to_have_text("000.png")
    expect(ben.locator("figcaption")).to_have_text("001.png")
    press(ann, "1")
    expect(ann.locator("figcaption")).to_have_text("002.png")
    for page, name in ((ann, "002.png"), (ben, "001.png")):
        page.reload()
        ready(page)
        expect(page.locator("figcaption")).to_have_text(name)
    press(ann, "2")
    press(ann, "3")
    expect(ann.get_by_role("heading", name="Other people have the remaining photos open")).to_be_visible()
    press(ben, "1")
    expect(ann.get_by_role("heading", name="All photos are done")).to_be_visible()
    expect(ben.get_by_role("heading", name="All photos are done")).to_be_visible()
    assert all(table(Path(server.state["table"]).parent).values())


def test_another_persons_decision_is_reported_and_kept(browser: Any, server: Serving) -> None:
    page = opened(browser, server)
    server.post("decide", BEN, id=0, revision=0, label=LABELS[2], by="ben")  # and ben gets the next, 001.png
    press(page, "1")
    expect(page.get_by_role("alert")).to_contain_text(f"000.png: ben chose {LABELS[2]} in the meantime")
    expect(page.locator("figcaption")).to_have_text("002.png")
    assert table(Path(server.state["table"]).parent)["000.png"] == LABELS[2]
    ready(page)
    press(page, "z")
    expect(page.get_by_role("alert")).to_contain_text("nothing to undo")
    press(page, "1")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_file_that_cannot_be_displayed_can_be_set_aside(browser: Any, tmp_path: Path) -> None:
    photos(tmp_path, "z.png")
    (tmp_path / "a<b>.jpg").write_text("a web page")
    with serving(tmp_path) as server:
        page = opened(browser, server)
        expect(page.locator("#reason")).to_contain_text("Unsupported image format")
        expect(page.get_by_role("status")).to_contain_text("a<b>.jpg. It cannot be displayed.")
        expect(page.locator("figcaption")).to_have_text("a<b>.jpg")
        press(page, "b")
        expect(page.get_by_role("img", name="Photo z.png")).to_be_visible()
        assert table(tmp_path)["a<b>.jpg"] == "broken"


def test_the_model_suggests_and_the_person_decides(browser: Any, tmp_path: Path) -> None:
    recipe = read_recipe("classroom")
    golden = sorted((SHIPPED / "goldens").iterdir())[0]
    for name in ("photo.jpg", "second.jpg"):
        (tmp_path / name).write_bytes(golden.read_bytes())
    with serving(tmp_path, recipe="classroom") as server:
        page = opened(browser, server)
        label = recipe.labels[int(golden.name.partition("_")[0])]
        expect(page.locator("#suggestion")).to_have_text(re.compile(rf"^the model suggests: {label} \(\d+ %\)$"))
        assert table(tmp_path) == {"photo.jpg": "", "second.jpg": ""}
        assert page.evaluate("document.activeElement === document.body")
        other = next(name for name in recipe.labels if name != label)
        page.get_by_role("button", name=other, exact=True).click()  # Enter must not press it again
        expect(page.locator("figcaption")).to_have_text("second.jpg")
        expect(page.locator("#suggestion")).to_contain_text(label)
        press(page, "Enter")
        assert table(tmp_path) == {"photo.jpg": other, "second.jpg": label}


def test_the_page_reports_a_stopped_server_and_reconnects(browser: Any, tmp_path: Path) -> None:
    with serving(numbered(tmp_path, 3)) as server:
        page = opened(browser, server)
        press(page, "1")
        server.stop(signal.SIGKILL)
    page.keyboard.press("1")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer. All decisions so far are saved.")
    with serving(tmp_path, port=int(server.url.rpartition(":")[2])):
        expect(page.get_by_role("alert")).to_be_hidden()
        expect(page.locator("figcaption")).to_have_text("001.png")
        press(page, "z")  # a decision from before the restart
        expect(page.get_by_role("status")).to_have_text("000.png: decision undone. Next: 000.png.")
        press(page, "2")
        assert table(tmp_path) == {"000.png": LABELS[1], "001.png": "", "002.png": ""}
