"""The web page: built, served and drawn on with a pointer in a real Chromium; its answers beside Python's."""

import base64
import io
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from characters import confusable
from data.labelled import labelled_pictures
from export.any_image import any_image_model
from export.varied_pictures import grey_of
from handwriting.strokes import read_model
from images.normalization import CONTRACT, normalize
from images.reading import read_grey
from inference.confidence import confidence_of, lead
from inference.recognizer import RELEASED, Recognizer
from structure.kanjivg import model_files

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = "/usr/bin/chromium"
FIGURES = ROOT / "models/released/figures.json"
CLASSES = "漢字永愛龍鬱語一二十大川口日あきすのおん𠮟"  # the last lies beyond 16 bits
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
TOUCH = {"isMobile": True, "hasTouch": True, "deviceScaleFactor": 3}
PHONES = [(360, 640), (390, 844), (844, 390), (667, 375)]


def require(there: object, what: str) -> None:
    """Skips where a tool is missing; in CI, where it has to be there, fails."""
    if not there:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{what} is missing: see web/README.md")


def strokes_of(char: str) -> list[list[list[float]]]:
    """KanjiVG strokes, each points (x, y) between 0 and 1."""
    return (read_model(model_files(char)[0]).strokes[:, ::4] * 0.85 + 0.5).tolist()


def drawing(char: str, side: int, pen: int) -> np.ndarray:
    """A character in black on white, uint8 (side, side)."""
    picture = np.full((side, side), 255, np.uint8)
    points = [np.int32(np.array(stroke) * side * 16) for stroke in strokes_of(char)]
    return cv2.polylines(picture, points, False, 0, pen, cv2.LINE_AA, 4)


def write_model(path: Path, classes: str = CLASSES, **more: str) -> Path:
    """A file for any image, worked by hand: the likeness of the blurred picture to a blurred drawing of each class."""
    templates = np.stack([cv2.blur(normalize(np.float32(drawing(c, 300, 12)))[0], (5, 5)) for c in classes])
    templates -= templates.mean(axis=(1, 2), keepdims=True)
    templates *= 40 / np.linalg.norm(templates, axis=(1, 2), keepdims=True) ** 2
    weights = np.stack([cv2.blur(template, (5, 5)).ravel() for template in templates], axis=1)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]> by_hand (float[n, 1, 64, 64] input_image) => (float[n, k] logits)
        { flat = Flatten(input_image)  logits = MatMul(flat, weights) }"""
    )
    model.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    facts = {"classes": classes, "contract": CONTRACT, "source": "KanjiVG stand-in", "script": "train_by_hand"}
    onnx.helper.set_model_props(model, facts | {"metrics": json.dumps({"validation_top1": 87.65})} | more)
    onnx.save(any_image_model(model, 10), path)
    return path


def environment(**more: str) -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if name not in {"MODEL", "INIT_CWD", "HOST", "PORT"}} | more


def run_npm(web: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    command = ["npm", *arguments]
    return subprocess.run(command, cwd=web, env=environment(**more), capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> Path:
    """A copy of web/ with its packages installed."""
    require(shutil.which("npm"), "node with npm")
    assert "resolved" not in (ROOT / "web" / "package-lock.json").read_text(encoding="utf-8")  # it names no registry
    folder = tmp_path_factory.mktemp("page") / "web"
    shutil.copytree(ROOT / "web", folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    done = run_npm(folder, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def build(web, tmp_path_factory) -> Callable[[Path], Path]:
    def make(model: Path) -> Path:
        """A folder of static files."""
        done = run_npm(web, "run", "build", MODEL=str(model))
        assert done.returncode == 0, done.stderr
        return shutil.copytree(web / "dist", tmp_path_factory.mktemp("host") / "a" / "folder")

    return make


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "by_hand.onnx")


@pytest.fixture(scope="module")
def site(build, model) -> Path:
    return build(model)


@pytest.fixture(scope="module")
def serve(tmp_path_factory) -> Iterator[Callable[[Path], str]]:
    """A function: the address at which an ordinary server of static files offers a folder of this test run."""
    root = tmp_path_factory.getbasetemp()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=root)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield lambda folder: f"http://127.0.0.1:{server.server_port}/{folder.relative_to(root)}/"
        server.shutdown()


class Browser:
    """A Chromium on one page; run(code, data) is the body of an async function of web/tests/browser.js."""

    def __init__(self, web: Path, home: Path):
        command, pipe = ["node", web / "tests" / "browser.js"], subprocess.PIPE
        settings = os.environ | {"HOME": str(home), "CHROMIUM": CHROMIUM}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=settings)

    def ask(self, **wish: object) -> object:
        self.process.stdin.write(json.dumps(wish) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def run(self, code: str, data: object = None) -> object:
        return self.ask(code=code, data=data)

    def open(self, address: str, settings: dict = DESKTOP) -> None:
        """Opens the page there with nothing left of an earlier one."""
        self.ask(settings=settings)
        ended = "body:is([data-state=ready], [data-state=broken])"
        self.run(f"await page.goto(data); await page.waitForSelector('{ended}', {{ timeout: 20_000 }})", address)

    def draw(self, strokes: list) -> dict:
        """Draws strokes with the pointer; what the page answers to the last."""
        return self.run("return draw(data)", strokes)

    def after(self, action: str, data: object = None) -> dict:
        """Does something that changes the drawing; what the page answers."""
        return self.run(f"return answerAfter(() => {action})", data)

    def press(self, key: str) -> None:
        self.run("await page.keyboard.press(data)", key)

    def results(self) -> list[str]:
        return self.run("return page.locator('#results .character').allTextContents()")

    def text(self, selector: str) -> str:
        return self.run("return page.locator(data).innerText()", selector)


@pytest.fixture(scope="module")
def browser(web, tmp_path_factory) -> Iterator[Browser]:
    require(Path(CHROMIUM).exists(), "chromium")
    one = Browser(web, tmp_path_factory.mktemp("home"))
    yield one
    one.process.communicate(timeout=20)


@pytest.fixture
def page(browser, serve, site) -> Iterator[Browser]:
    """The page with the model worked by hand; it must complain of nothing and ask no other host."""
    browser.open(serve(site))
    yield browser
    assert browser.run("return [context.foreign, context.errors]") == [[], []]


recognizer_of = cache(Recognizer)


def check_against_python(answer: dict, model: Path, grey: np.ndarray | None = None) -> None:
    """The page's logits and its list are what Python makes of the same picture."""
    if grey is None:
        grey = grey_of(np.frombuffer(base64.b64decode(answer["pixels"]), np.uint8).reshape(answer["shape"]))
    recognizer, got = recognizer_of(model), np.frombuffer(base64.b64decode(answer["logits"]), np.float32)
    expected = recognizer.picture_logits([grey])[0]
    # Processors round the integers of an INT8 model at a half in their own ways: one step is felt in every logit.
    assert np.abs(got - expected).max() < 1e-3 or "int8" in model.name
    assert np.abs(got - expected).mean() < 0.03 * expected.std()
    shares = recognizer.confidence.probabilities(got)
    best = np.argsort(-shares, kind="stable")[:10]
    assert answer["top"][0]["character"] == recognizer.classes[best[0]] == recognizer.classes[expected.argmax()]
    assert [entry["probability"] for entry in answer["top"]] == pytest.approx(shares[best].tolist(), abs=1e-4)


JUDGE = """
import { confidenceOf, isKnown } from "CONFIDENCE";
const { rows, settings } = JSON.parse(process.argv[1]);
const known = settings.map((confidence) => rows.map((row) => isKnown(row, confidenceOf({ confidence }))));
console.log(JSON.stringify(known));
"""


def test_confidence_is_pythons():
    require(shutil.which("node"), "node")
    rows = np.random.default_rng(0).normal(0, 3, (40, 30)).astype(np.float32)
    settings = ["{}", json.dumps({"temperature": 0.7, "threshold": float(np.median(lead(rows))) + 1e-4})]
    code = JUDGE.replace("CONFIDENCE", (ROOT / "web" / "confidence.js").as_uri())
    command = ["node", "--input-type=module", "-e", code, json.dumps({"rows": rows.tolist(), "settings": settings})]
    known = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    assert known == [confidence_of(one, "web").known(rows).tolist() for one in settings]
    assert [sum(row) for row in known] == [40, 20]


def test_strokes_give_pythons_logits_and_the_right_character(page, model):
    for char in CLASSES[::2]:
        answer = page.draw(strokes_of(char))
        check_against_python(answer, model)
        assert page.results() == [entry["character"] for entry in answer["top"]]
        assert page.results()[0] == char
        page.press("Escape")
        assert page.results() == []
    facts = {"classes": "15 kanji and 6 hiragana", "source": "Synthetic handwriting: strokes of KanjiVG, "}
    facts["accuracy"] = "87.65 % of validation samples by made-up writers that it was not trained on."
    facts["name"] = f"by_hand, {model.stat().st_size / 1e6:.1f} MB. From by_hand.onnx, not a released model."
    for name, words in facts.items():
        assert page.text(f"#model-{name}").startswith(words)
    assert "CC BY-SA 3.0" in page.text("#licence")
    assert page.run("return page.locator('#warning').isHidden()")


def test_the_picture_is_what_was_drawn(page):
    answer = page.draw([[[0.2, 0.25], [0.5, 0.25], [0.8, 0.25]], [[0.5, 0.75]]])
    dark = np.frombuffer(base64.b64decode(answer["pixels"]), np.uint8).reshape(256, 256, 4)[:, :, 0] < 128
    rows, columns = np.nonzero(dark[:128])
    assert (rows.min(), rows.max()) == pytest.approx((59, 68), abs=2)  # a quarter down, as thick as the pen
    assert (columns.min(), columns.max()) == pytest.approx((46, 209), abs=2)
    rows, columns = np.nonzero(dark[128:])  # a tap is a dot
    assert (rows.mean() + 128, columns.mean()) == pytest.approx((192, 128), abs=1.5)


def test_it_says_what_is_not_one_of_its_characters_and_what_one_looks_like(browser, serve, build, tmp_path):
    sharp = Recognizer(write_model(tmp_path / "sharp.onnx"))
    logits = sharp.picture_logits([drawing("口", 300, 12).astype(np.float32)])[0]
    threshold, second = 0.6 * float(lead(logits)), CLASSES[np.argsort(-logits)[1]]
    settings = json.dumps({"temperature": 8, "threshold": threshold})  # the second is a candidate too
    model = write_model(tmp_path / "more.onnx", confidence=settings, config=json.dumps({"split": "random"}))
    confusable.save(tmp_path / "confusable.json", CLASSES, {second: {"口": 0.1}}, "a test")
    browser.open(serve(build(model)))
    assert browser.text("#model-accuracy").endswith("made-up writers whose other samples it was trained on.")
    answer = browser.draw(strokes_of("口"))
    check_against_python(answer, model)
    assert (answer["known"], answer["looksLike"]) == (True, ["ロ", "囗", second])
    assert browser.text("#note") == f"Looks like: katakana ロ, 囗, {second}"
    browser.press("Escape")
    assert browser.run("return page.locator('#note').isHidden()")
    wave = [[[0.1 + 0.02 * i, 0.5 + 0.4 * (-1) ** i] for i in range(40)]]
    assert browser.draw(wave)["known"] is False
    assert browser.text("#note").startswith("Not one of these characters?")
    assert len(browser.results()) == 10  # the nearest are listed all the same
    assert browser.run("return page.locator('#status').textContent()").endswith(browser.text("#note"))
    assert browser.run("return context.errors") == []


def test_undo_and_clear_by_button_and_key(page):
    ten, two = strokes_of("十"), strokes_of("二")
    page.draw(ten[:1])
    once = page.results()
    page.draw(ten[1:])
    assert page.results()[0] == "十"
    assert page.after("page.keyboard.press('Control+z')")["top"][0]["character"] == once[0]
    page.run("await page.click('#undo')")
    assert page.results() == []
    assert page.run("return page.locator('#undo').isDisabled()")
    for clear in ("keyboard.press('Escape')", "keyboard.press('Delete')", "click('#clear')"):
        page.draw(two)
        assert page.results()[0] == "二"
        page.run(f"await page.{clear}")
        assert page.results() == []
    assert page.after("page.click('#undo')")["top"][0]["character"] == "二"  # clearing too can be undone


def test_redo_by_button_and_key(page):
    redo_is_off = "return page.locator('#redo').isDisabled()"
    page.draw(strokes_of("二"))
    for redo in ("click('#redo')", "keyboard.press('Control+y')", "keyboard.press('Control+Shift+Z')"):
        assert page.run(redo_is_off)
        page.after("page.keyboard.press('Control+z')")
        assert page.after(f"page.{redo}")["top"][0]["character"] == "二"
    page.after("page.keyboard.press('Control+z')")
    page.draw(strokes_of("川"))  # what is drawn anew takes the place of what was undone
    assert page.run(redo_is_off)


def strokes_in(char: str, size: float) -> list:
    """A character's strokes, as large as a share of the side."""
    strokes = np.array(strokes_of(char))
    low, high = strokes.min(axis=(0, 1)), strokes.max(axis=(0, 1))
    return (0.5 + (strokes - (low + high) / 2) * size / (high - low).max()).tolist()


def test_a_dot_is_not_read_and_a_small_character_is(page):
    scribble = [[0.5, 0.5], [0.53, 0.52], [0.51, 0.54], [0.49, 0.51], [0.52, 0.5]]
    beginnings = [strokes_of(char)[0] for char in "字永"]
    for stroke in ([[0.3, 0.6]], [[0.3, 0.6], [0.305, 0.602]], scribble, *beginnings):
        page.run("await drawStroke(data)", stroke)
        assert page.text(".answer").startswith("Only a dot so far: draw a whole character.")
        assert page.results() == []
        page.press("Escape")
    strokes = strokes_of("字")
    page.run("await drawStroke(data)", strokes[0])
    assert page.draw(strokes[1:])["top"][0]["character"] == page.results()[0] == "字"
    for char, size in (*((char, size) for char in "一口のきん大" for size in (0.1, 0.2)), ("漢", 0.15)):
        page.press("Escape")
        page.draw(strokes_in(char, size))
        assert page.results()[0] == char
    page.press("Escape")
    assert page.draw(strokes_of("い")[:1])["top"]  # long and bent: く or し
    picture = cv2.circle(np.full((200, 150), 255, np.uint8), (60, 90), 9, 40, -1, cv2.LINE_AA)
    for dot in (picture, 255 - picture):
        page.run("await give(data); await page.waitForSelector('#note:not([hidden])')", file_of(dot, "choose"))
        assert page.text(".answer").startswith("This picture shows only a dot. Choose one of a whole character.")
        page.draw(strokes_of("川"))


def file_of(picture: np.ndarray, event: str) -> dict:
    """A picture as a PNG file that is pasted, dropped or chosen."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return {"event": event, "name": "a.png", "base64": base64.b64encode(file.getvalue()).decode()}


@pytest.mark.parametrize("event", ["paste", "drop", "choose"])
def test_an_image_is_read_as_python_reads_it(page, model, tmp_path, event):
    dark = 255 - drawing("愛", 400, 14)[:, :320]
    ink = np.zeros((300, 300, 4), np.uint8)
    ink[..., :3], ink[..., 3] = 250, 255 - drawing("永", 300, 10)  # light ink on nothing
    colours = np.stack([drawing("語", 200, 7) // share for share in (1, 2, 3)], axis=2)
    for char, picture in zip("愛永語", (dark, ink, colours), strict=True):
        file = file_of(picture, event)
        (tmp_path / "a.png").write_bytes(base64.b64decode(file["base64"]))
        check_against_python(page.after("give(data)", file), model, read_grey(tmp_path / "a.png"))
        assert page.results()[0] == char
    blank = file_of(np.full((90, 90), 255, np.uint8), event)
    assert page.after("give(data)", blank)["top"] == page.results() == []
    assert page.text(".answer").startswith("This picture is blank: there is nothing to read.")
    assert page.after("page.keyboard.press('Control+z')")["top"][0]["character"] == "語"
    page.draw(strokes_of("川"))  # drawing puts an image aside
    assert page.results()[0] == "川"
    page.run("await give(data); await page.waitForSelector('#problem')", file | {"name": "b.png", "base64": "AAAA"})
    assert page.text(".answer") == "b.png is not an image that this browser can read. Try a PNG or JPEG file."
    assert page.after("page.keyboard.press('Control+z')")["top"][0]["character"] == page.results()[0] == "川"
    assert page.run("return page.locator('#problem').isHidden()")


def test_a_large_image_is_read_and_pasted_words_are_refused(page):
    big = cv2.resize(drawing("龍", 1000, 30), (3000, 3000))
    assert page.after("give(data)", file_of(big, "choose"))["top"][0]["character"] == "龍"
    for event in ("ClipboardEvent('paste')", "DragEvent('drop', { cancelable: true })"):
        page.run(f"await page.evaluate(() => document.dispatchEvent(new {event}))")
        assert "is not an image" in page.text(".answer")


def test_results_are_named_and_copied_by_click_and_digit(page):
    page.run("await context.grantPermissions(['clipboard-read', 'clipboard-write'])")
    page.draw(strokes_of("漢"))
    assert page.run("return page.locator('#status[aria-live=polite]').textContent()").startswith("Likeliest: 漢")
    names = page.run(
        "return page.locator('button').evaluateAll(all => all.map(b => b.ariaLabel || b.innerText.trim()))"
    )
    assert (len(names), all(names)) == (15, True)
    results = page.results()
    copy = "click('#results li:nth-child(1) button')", "keyboard.press('3')", "keyboard.press('0')"
    for action, place in zip(copy, (0, 2, 9), strict=True):
        page.run(f"await page.{action}; await page.waitForTimeout(100)")
        assert page.run("return page.evaluate(() => navigator.clipboard.readText())") == results[place]
        assert page.text("#notice") == f"Copied {results[place]}"


def test_a_drawing_is_saved_under_its_character_as_training_takes_it(page, tmp_path):
    save = """const asked = [];
        page.once('dialog', (dialog) => { asked.push(dialog.defaultValue()); dialog.accept(data.answer); });
        const coming = page.waitForEvent('download', { timeout: data.folder ? 20_000 : 500 }).catch(() => null);
        await (data.key ? page.keyboard.press('Control+s') : page.click('#save'));
        const file = await coming;
        await file?.saveAs(`${data.folder}/${file.suggestedFilename()}`);
        return asked"""
    assert page.run("return page.locator('#save').isDisabled()")
    for key, char in ((False, "漢"), (True, "永")):
        answer = page.draw(strokes_of(char))
        offered = page.run(save, {"key": key, "answer": char, "folder": str(tmp_path / "drawn")})
        assert offered == [answer["top"][0]["character"]]
        assert page.results() == []  # there is room for the next
    page.draw(strokes_of("語"))
    for wrong, says in (("漢字", "Not saved: give the one Japanese character"), ("a", "Not saved: give the one")):
        assert page.run(save, {"key": False, "answer": wrong, "folder": ""})
        assert page.text("#notice").startswith(says)
    assert page.results()[0] == "語"  # nothing is lost
    found = labelled_pictures(tmp_path / "drawn")
    assert sorted(picture.character for picture in found) == ["永", "漢"]
    picture = normalize(read_grey(next(p.path for p in found if p.character == "漢")))[0]
    assert (picture * normalize(np.float32(drawing("漢", 300, 12)))[0]).sum() > 0.8 * (picture**2).sum()


def check_that_all_is_seen(browser: Browser, width: int, height: int, places: str) -> None:
    """All these places lie within the screen, one beside the other, and what is pressed is as large as a thumb."""
    boxes = f"""return page.locator('{places}').evaluateAll(all => all.map((one) => {{
        const box = one.getBoundingClientRect();
        return [box.left, box.top, box.right, box.bottom]; }}))"""
    left, top, right, bottom = boxes = np.array(browser.run(boxes)).T
    assert (left.min() >= 0, top.min() >= 0, right.max() <= width, bottom.max() <= height) == (True,) * 4
    assert min((right - left).min(), (bottom - top)[:-1].min()) >= 44 or "button" not in places
    beside = (left >= right[:, None] - 0.01) | (top >= bottom[:, None] - 0.01)
    assert (beside | beside.T | np.eye(len(left), dtype=bool)).all(), boxes


@pytest.mark.parametrize(("width", "height"), PHONES)
def test_a_phone(browser, serve, site, width, height):
    browser.open(serve(site), TOUCH | {"viewport": {"width": width, "height": height}})
    check_that_all_is_seen(browser, width, height, "#drawing, .tools button, #waiting")
    browser.run("await drawByFinger(data)", strokes_of("大"))
    first = "document.querySelector('#results .character')?.textContent"
    browser.run(f"await page.waitForFunction(() => {first} === '大')")
    assert len(browser.results()) == 10
    # A finger draws, it does not scroll; innerWidth would grow with what is too wide.
    seen = browser.run("return page.evaluate(() => [document.documentElement.scrollWidth, window.scrollY])")
    assert seen == [width, 0]
    check_that_all_is_seen(browser, width, height, "#drawing, button, #hint")
    browser.run("await page.click('#clear'); await drawByFinger([[[0.5, 0.5]]])")
    check_that_all_is_seen(browser, width, height, "#drawing, .tools button, #note")


def test_a_desktop_window(page):
    page.draw(strokes_of("大"))
    check_that_all_is_seen(page, *DESKTOP["viewport"].values(), "#drawing, button, footer")


def test_it_asks_only_its_own_site_and_nothing_while_it_reads(page, serve, site):
    asked = page.run("return context.requests")
    files = "start.js style.css page.js recognizer.js model.onnx ort-wasm-simd-threaded.wasm confusable.json about.json"
    assert sorted(asked) == sorted([serve(site), *(serve(site) + name for name in files.split())])
    page.draw(strokes_of("大"))
    page.after("give(data)", file_of(drawing("愛", 400, 14), "drop"))
    page.run("await page.click('#results li:nth-child(2) button'); await page.waitForTimeout(2000)")
    assert page.run("return context.requests") == asked


def test_it_says_why_it_does_not_start(browser, serve, site, tmp_path):
    folder = shutil.copytree(site, tmp_path / "site")
    (folder / "page.js").unlink()
    for address, words in (
        ((site / "index.html").as_uri(), "This page was opened as a file, and browsers do not let a file load"),
        (serve(folder), "This page could not start: its file page.js is missing, or this browser is too old."),
    ):
        browser.open(address)
        assert browser.text(".answer").startswith(words)
        assert "Loading" not in browser.text("body")


def test_a_broken_model_is_reported(browser, serve, site, tmp_path):
    whole = (site / "model.onnx").read_bytes()
    no_operator = onnx.load_from_string(whole)  # it names its classes, but cannot be run
    no_operator.graph.node[0].op_type = "NoSuchOperator"
    folder = shutil.copytree(site, tmp_path / "site")
    (folder / "model.onnx").unlink()
    for content, words in (
        (None, "its file model.onnx is missing from this site (status 404). If this is your site, run “npm run build”"),
        (whole[:-1000], "it ends too early"),
        (b"<!doctype html><title>Not found</title>", "it is not an ONNX file"),
        (no_operator.SerializeToString(), ""),
    ):
        if content:
            (folder / "model.onnx").write_bytes(content)
        browser.open(serve(folder))
        assert browser.run("return page.evaluate(() => document.body.dataset.state)") == "broken"
        browser.run(
            "for (const stroke of data) await drawStroke(stroke); await page.waitForTimeout(300)", strokes_of("十")
        )
        assert browser.results() == []
        assert browser.text(".answer").startswith(f"The model cannot be used: {words}")
        assert "Loading" not in browser.text("body")


def test_a_wrong_call_ends_with_one_line(web, tmp_path, model, serve, site):
    busy = serve(site).split(":")[2].split("/")[0]
    for script, settings, message in (
        ("start", {}, "../models/kanji_model_any_image.onnx is missing"),
        ("build", {"MODEL": str(tmp_path / "none.onnx")}, "none.onnx is missing"),
        ("start", {"MODEL": str(model), "PORT": busy}, "PORT=number chooses another port"),
        ("build", {"MODEL": str(RELEASED)}, "convert_to_onnx.py --any-image makes one"),
    ):
        done = run_npm(web, "run", "--silent", script, **settings)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr


def test_start_serves_the_models_of_the_repository_in_order_and_says_which(web, model, build, serve, browser):
    released = web.parent / "models/released" / f"{RELEASED.stem}_any_image.onnx"
    released.parent.mkdir(parents=True)
    shutil.copy(model, released)
    shutil.copy(FIGURES, released.parent)  # they are of another file of this name
    (web.parent / "models/kanji_model.onnx").touch()
    done = run_npm(web, "run", "build")
    assert f"models/released/{released.name}: by_hand, not a released model: 15 kanji and 6 hiragana" in done.stdout
    assert done.stderr.startswith("warning: ../models/kanji_model.onnx is not used: convert_to_onnx.py --any-image")
    own, metrics = web.parent / "models/kanji_model_any_image.onnx", json.dumps({"validation_top1": 79.99})
    write_model(own, "一二十", script="train_vit", quantization="{}", metrics=metrics)
    command, settings = ["node", "build.js", "--serve"], environment(PORT="0")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=web, env=settings, stdout=pipe, stderr=pipe, text=True) as process:
        lines = [process.stdout.readline() for _ in range(4)]
        process.terminate()
        said = process.stderr.read()
    assert lines[0].startswith("../models/kanji_model_any_image.onnx replaces the released model; MODEL=path")
    assert "models/kanji_model_any_image.onnx: Vision Transformer, INT8, not a released model: 3 kanji" in lines[1]
    assert lines[3].startswith("http://127.0.0.1:")
    warning = "This model has hardly been trained: it reads only 79.99 % of its validation samples."
    assert said.startswith(f"warning: {warning}")
    browser.open(serve(build(own)))
    assert browser.text("#model-name").endswith("From kanji_model_any_image.onnx, not a released model.")
    assert browser.text(".answer").startswith(warning)
    shutil.rmtree(web.parent / "models")


def test_a_trained_model_reads_what_is_drawn(build, serve, browser, model, tmp_path):
    """The released model: KanjiVG's strokes of eleven characters. Takes the README's screenshot too."""
    trained = FIGURES.with_name(f"{RELEASED.stem}_any_image.onnx")
    folder = build(trained)
    browser.open(serve(folder))
    figures, page = json.loads(FIGURES.read_text(encoding="utf-8"))["files"][trained.name], browser.text("footer")
    for words in (
        f"{figures['real drawings']} % of 1,604 drawings by real people.\n",
        f"{figures['read and stated as known']} % of them without a note of doubt.",
        "2,965 kanji and 71 hiragana",
        "HierCode, INT8, 1.2 MB. Released with this page.",
    ):
        assert words in page
    assert not [word for word in ("train_", "stand-in", "94.9") if word in browser.text("body")]
    for char in "漢字永愛校日山火あきむ":
        check_against_python(browser.draw(strokes_of(char)), trained)
        assert browser.results()[0] == char
        browser.press("Escape")
    for char in "一口いしつのに漢愛":  # drawn small, the pen would fill them
        browser.draw(strokes_in(char, 0.1))
        assert browser.results()[0] == char
        browser.press("Escape")
    window = {"viewport": {"width": 1000, "height": 612}, "colorScheme": "light"}
    browser.open(serve(folder), window)  # the README's screenshot, written where SCREENSHOT says
    assert browser.draw(strokes_of("愛"))["top"][0]["character"] == "愛"
    screenshot = Path(os.environ.get("SCREENSHOT", tmp_path / "page.png")).resolve()
    browser.run("await page.mouse.move(0, 0); await page.screenshot({ path: data })", str(screenshot))
    with Image.open(screenshot) as taken, Image.open(ROOT / "examples/page.png") as shown:
        assert taken.size == shown.size == tuple(window["viewport"].values())
    shutil.copy(model, folder / "model.onnx")  # another model, without a new build: its own figure
    browser.open(serve(folder))
    assert browser.text("#model-accuracy").startswith("87.65 % of validation samples by made-up writers")
