"""The page in a real browser, with a webcam of the browser's own making.

Chromium is looked for on the system; `playwright install` is not needed.
"""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import Run
from drawn import LABELS, base, filled, photo
from fewshot_lite.core.files import models_folder
from fewshot_lite.demo.drawings import write_folder
from fewshot_lite.personal.exported_model import ExportedModel
from fewshot_lite.personal.personal_model import PersonalModel
from served import Served, serving

pytest.importorskip("starlette", reason="needs the extra `web`")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_BROWSER = next(filter(None, map(shutil.which, _NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_BROWSER is None, reason="no Chromium here: install the package chromium"),
]
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
Page = Any


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=_BROWSER, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    base().save(tmp_path / "base.safetensors")
    words = ("things", "--base", "base.safetensors", "--no-open")
    (tmp_path / "things").mkdir(exist_ok=True)
    with serving(*words, cwd=tmp_path) as served:
        yield served


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Page]:
    """The page in a browser of its own, which fails if anything goes wrong or elsewhere."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(60_000)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: _is_wrong(said) and wrong.append(said.text))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("request", lambda r: _is_local(r.url, served) or wrong.append(r.url))
    page.goto(served.address)
    page.wait_for_selector("#folder:not(:empty)", state="attached")
    yield page
    context.close()
    assert wrong == []


def _is_wrong(said: Any) -> bool:
    """Whether a line of the console is more than the status of a photo that is none."""
    return said.type in ("error", "warning") and "status of 422" not in said.text


def _is_local(address: str, served: Served) -> bool:
    return address.startswith((served.address, "blob:", "data:"))


def drop(page: Page, selector: str, files: dict[str, bytes]) -> None:
    """Drop files on an element, as from a file manager."""
    encoded = [[name, base64.b64encode(data).decode()] for name, data in files.items()]
    page.evaluate(
        """async ([selector, files]) => {
            const transfer = new DataTransfer();
            for (const [name, data] of files) {
                const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
                transfer.items.add(new File([bytes], name, { type: "image/png" }));
            }
            const about = { dataTransfer: transfer, bubbles: true, cancelable: true };
            for (const kind of ["dragenter", "dragover", "drop"])
                document.querySelector(selector).dispatchEvent(new DragEvent(kind, about));
        }""",
        [selector, encoded],
    )


def card(label: str) -> str:
    return f'[data-name="{label}"]'


def recorded_of(label: str, least: int) -> str:
    """What is shown while photos are recorded, of so many at least: one may go by unseen."""
    numbers = "|".join(map(str, range(least, 100)))
    return f"#recording:text-matches('^({numbers}) photos of {label}')"


def number_of(page: Page, label: str) -> int:
    return int(page.inner_text(f"{card(label)} .card-head .soft").split()[0])


def wait_for_photos(page: Page, label: str, number: int) -> None:
    page.wait_for_function(
        """([selector, number]) => document.querySelectorAll(selector).length === number
            && !document.querySelector(selector + ".new")""",
        arg=[f"{card(label)} .photos button", number],
    )


def make_class(page: Page, label: str) -> None:
    page.fill("#new-name", label)
    page.press("#new-name", "Enter")
    page.wait_for_selector(card(label))


def downloaded(page: Page, button: str, path: Path) -> Path:
    page.click("#file-menu summary")
    with page.expect_download(timeout=120_000) as found:
        page.click(button)
    found.value.save_as(path)
    return path


def test_from_nothing_to_a_file_that_answers_the_same(page: Page, run: Run, tmp_path: Path) -> None:
    for number, label in enumerate(LABELS[:2]):
        make_class(page, label)
        photos = {f"{i}.png": photo(number, i).data for i in range(4)}
        drop(page, card(label), photos | {"no photo.png": b"text"})
        page.wait_for_selector("text=no photo.png: not an image")
        wait_for_photos(page, label, 4)
    page.wait_for_selector("#quality:not([hidden])")
    assert "named right" in page.inner_text("#expect")
    # the webcam, in a class of its own
    make_class(page, "green")
    hold = page.locator(f"{card('green')} .hold")
    hold.hover()
    page.mouse.down()
    page.wait_for_selector(recorded_of("green", 5))
    page.mouse.up()
    page.wait_for_selector("#label:has-text('green')")
    page.wait_for_selector("body:not(.is-recording)")
    recorded = number_of(page, "green")
    assert recorded >= 4
    wait_for_photos(page, "green", recorded)
    # an answer is corrected, and that is taken back
    page.select_option("#right-class", "mug")
    page.click("#correct button")
    wait_for_photos(page, "mug", 5)
    page.keyboard.press("Control+z")
    wait_for_photos(page, "mug", 4)
    page.click("#stop")
    # all is there again after a reload
    page.reload()
    for label, number in {"mug": 4, "keys": 4, "green": recorded}.items():
        wait_for_photos(page, label, number)
    page.wait_for_selector("#quality:not([hidden])")
    # what the page answers is what the saved file and the export answer
    new = {f"{k} {i}.png": photo(k, 50 + i).data for k in range(3) for i in range(2)}
    drop(page, "#try", new)
    page.wait_for_function("() => document.querySelectorAll('#tried li strong').length === 6")
    said = [text.split()[0] for text in page.locator("#tried li strong").all_inner_texts()][::-1]
    model = downloaded(page, "#save", tmp_path / "m.safetensors")
    for name, data in new.items():
        (tmp_path / name).write_bytes(data)
    answers = run("classify", *(tmp_path / name for name in new), "-m", model, "--json").json
    assert [answer["label"] for answer in answers] == said
    export = ExportedModel.load(downloaded(page, "#export", tmp_path / "m.onnx"))
    assert [p.label for p in export.classify([tmp_path / name for name in new])] == said
    page.click("#cards")
    assert downloaded(page, "#download", tmp_path / "photos.zip").stat().st_size > 1000


def test_folders_become_classes_and_photos_are_pasted(page: Page) -> None:
    things = {"cup": (0, range(6)), "box": (1, range(6))}
    folders = [
        [name, [[f"{i}.png", base64.b64encode(photo(k, i).data).decode()] for i in seeds]]
        for name, (k, seeds) in things.items()
    ]
    page.evaluate(_DROP_FOLDERS, folders)
    for name in things:
        wait_for_photos(page, name, 6)
    # what is pasted goes to the class that has the focus, or is named
    page.wait_for_selector("#quality:not([hidden])")
    page.focus(card("cup"))
    page.evaluate(_PASTE, base64.b64encode(photo(0, 40).data).decode())
    wait_for_photos(page, "cup", 7)
    page.focus("#undo")
    page.mouse.move(2, 2)
    page.evaluate(_PASTE, base64.b64encode(photo(0, 41).data).decode())
    page.wait_for_selector("#tried li strong")


@pytest.mark.skipif(
    not any(models_folder().glob("*.safetensors")), reason="no shipped model in this checkout"
)
def test_photos_in_doubt_are_kept_and_moved(browser: Any, tmp_path: Path) -> None:
    things = tmp_path / "things"
    write_folder(things, ["mug", "key"], 10, seed=1)
    for path in sorted((things / "mug").iterdir())[:2]:
        path.rename(things / "key" / f"wrong {path.name}")
    with serving("things", "--no-open", cwd=tmp_path) as served:
        page = browser.new_page()
        page.set_default_timeout(90_000)
        page.goto(served.address)
        page.wait_for_selector(".doubts li:nth-child(2)")
        page.locator(".doubts li").first.get_by_role("button", name="Keep").click()
        page.wait_for_selector(".doubts li:only-child")
        page.get_by_role("button", name="Move", exact=True).click()
        wait_for_photos(page, "key", 11)
        assert len(list((things / "mug").iterdir())) == 9
        page.wait_for_selector("#doubts", state="hidden")
        for _ in range(2):
            page.click("#undo")
        page.wait_for_selector(".doubts li:nth-child(2)")
        assert len(list((things / "key").iterdir())) == 12
        page.close()


_DROP_FOLDERS = """(folders) => {
    const decode = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const entry = ([name, files]) => ({
        name, isDirectory: true, isFile: false,
        createReader: () => {
            const parts = [files.map(([name, data]) => ({
                name, isFile: true, isDirectory: false,
                file: (give) => give(new File([decode(data)], name)),
            })), []];
            return { readEntries: (give) => give(parts.shift()) };
        },
    });
    const items = folders.map((folder) => ({ webkitGetAsEntry: () => entry(folder) }));
    const event = new DragEvent("drop", { bubbles: true, cancelable: true });
    Object.defineProperty(event, "dataTransfer", { value: { items, files: [] } });
    document.getElementById("new-class").dispatchEvent(event);
}"""
_PASTE = """(data) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    transfer.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
    const about = { clipboardData: transfer, bubbles: true, cancelable: true };
    document.dispatchEvent(new ClipboardEvent("paste", about));
}"""


def test_the_keyboard_alone_is_enough(page: Page, tmp_path: Path) -> None:
    """From nothing to a saved model, without a pointer: not even the focus is set for it."""
    press, typed = page.keyboard.press, page.keyboard.type

    def to(what: str) -> None:
        """Tab on until an element has the focus; each of the photos recorded is a stop."""
        for _ in range(1000):
            press("Tab")
            if page.evaluate("(s) => document.activeElement.matches(s)", what):
                return
        raise AssertionError(f"{what} is not reached")

    for label in ("a", "b"):
        to("#new-name")
        typed(label)
        press("Enter")
        page.wait_for_selector(card(label))
    for label in ("a", "b"):
        to(f"{card(label)} .hold")
        page.keyboard.down("Space")
        page.wait_for_selector(recorded_of(label, 3))
        page.keyboard.up("Space")
        page.wait_for_selector("body:not(.is-recording)")
    number = number_of(page, "b")
    wait_for_photos(page, "b", number)
    # a photo is removed, and that is taken back
    to(f"{card('b')} .photos button")
    press("Delete")
    wait_for_photos(page, "b", number - 1)
    press("Control+z")
    wait_for_photos(page, "b", number)
    # the live answer is corrected
    to("#right-class")
    typed("b")
    to("#correct button")
    press("Enter")
    number += 1
    wait_for_photos(page, "b", number)
    to("#stop")
    press("Enter")
    # a class gets another name, and a photo another class
    to(f"{card('b')} summary")
    press("Enter")
    to(f"{card('b')} .menu button")
    press("Enter")
    press("Control+a")
    typed("c")
    press("Enter")
    page.wait_for_selector(card("c"))
    to(f"{card('c')} .photos button")
    press("Enter")
    to("dialog select")
    typed("a")
    to("dialog .primary")
    press("Enter")
    wait_for_photos(page, "c", number - 1)
    to(f"{card('c')} .photos button")
    press("Enter")
    page.wait_for_selector("dialog[open]")
    press("Escape")
    page.wait_for_selector("dialog:not([open])", state="attached")
    to("#file-menu summary")
    press("Enter")
    to("#save")
    with page.expect_download(timeout=120_000) as found:
        press("Enter")
    found.value.save_as(tmp_path / "saved.safetensors")
    assert set(PersonalModel.load(tmp_path / "saved.safetensors").shots) == {"a", "c"}


def test_names_are_text_wherever_they_stand(page: Page) -> None:
    evil = "<img src=x onerror=alert(1)>"
    assert evil
    for number, label in enumerate((evil, '"><svg onload=alert(2)>'.replace("/", ""))):
        page.fill("#new-name", label)
        page.press("#new-name", "Enter")
        page.wait_for_function(
            "(label) => [...document.querySelectorAll('[data-name]')]"
            ".some((found) => found.dataset.name === label)",
            arg=label,
        )
        place = f"article:nth-of-type({number + 1})"
        files = {f"{i} {evil}.png": photo(number, i).data for i in range(2)}
        drop(page, place, files | {f"{evil}.png": b"no photo"})
        page.wait_for_function(
            "(s) => document.querySelectorAll(s).length === 2", arg=f"{place} .photos button"
        )
    page.wait_for_selector("#quality:not([hidden])")
    drop(page, "#try", {f"{evil}.png": photo(0, 9).data})
    page.wait_for_selector("#tried li strong")
    assert evil in page.inner_text("#cards")
    assert evil in page.inner_text("#toasts")
    assert page.locator("img[onerror], svg, [src='x']").count() == 0


#: Text whose colour is nearer to what is behind it than WCAG AA allows; and what has no name.
_CHECKS = """() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
        .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const color = parse(getComputedStyle(element).backgroundColor);
            if (color.length < 4 || color[3] > 0.99) return color;
        }
        return [255, 255, 255];
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        if (!element.checkVisibility() || element.disabled) continue;
        const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (own) {
            const bar = element.closest(".bars li")?.querySelector("i");  // under the text, too
            for (const ground of [behind(element), ...(bar ? [behind(bar)] : [])]) {
                const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground)];
                const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                if (ratio < 4.5) found.push(`${element.tagName} ${element.textContent} ${ratio}`);
            }
        }
        if (element.matches("button, select, input, summary, img")) {
            const name = element.getAttribute("aria-label") ?? element.textContent.trim();
            const labelled = element.labels?.length || element.closest("button[aria-label]");
            if (!name && !labelled && element.getAttribute("alt") === null)
                found.push(`no name: ${element.outerHTML}`);
        }
    }
    if (document.documentElement.scrollWidth > innerWidth) found.push("scrolls sideways");
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_it_can_be_read_at_any_width_by_day_and_by_night(
    browser: Any, tmp_path: Path, scheme: str, width: int
) -> None:
    session = filled(tmp_path / "things")
    session.add_photos("mug", [photo(1, 90)])  # which looks like another
    assert session.settled(60)
    session.close()
    with serving("things", "--no-open", cwd=tmp_path) as served:
        size = {"width": width, "height": 800}
        context = browser.new_context(viewport=size, color_scheme=scheme)
        page = context.new_page()
        page.goto(served.address)
        page.wait_for_selector(".photos img")
        page.click("#camera")
        page.wait_for_selector("#answer:not([hidden])")
        drop(page, "#try", {"a.png": photo(0, 60).data, "b.png": b"no photo"})
        page.wait_for_function("() => document.querySelectorAll('#tried li').length === 2")
        page.click("#file-menu summary")
        assert page.evaluate(_CHECKS) == []
        page.keyboard.press("Escape")
        page.click(".photos button")
        page.wait_for_selector("dialog[open]")
        assert page.evaluate(_CHECKS) == []
        page.keyboard.press("Escape")
        page.click("#correct button")  # with no class chosen
        page.fill("#new-name", "mug")
        page.press("#new-name", "Enter")  # there is one
        page.wait_for_selector(".toast")
        assert page.evaluate(_CHECKS) == []
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        dark = sum(map(int, re.findall(r"\d+", background))) < 300
        assert dark == (scheme == "dark")
        context.close()
