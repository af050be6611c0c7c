"""The browser viewer in a real browser, from disk and from a server: what it shows is what the tables say."""

import base64
import functools
import io
import json
import shutil
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support import browser
from support import viewer as made

from shest.view import viewer

pytestmark = pytest.mark.browser
R = "results/tiny"


class Page:
    """A viewer that is open, driven by mouse and keys."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, address, width=1280, height=900, **view):
        browser.resize(self.driver, width, height)
        self.driver.get("about:blank")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(address + (f"#{'&'.join(f'{k}={v}' for k, v in view.items())}" if view else ""))
        self.wait(lambda: self.run("return document.documentElement.dataset.ready") == "all")
        self.settle()

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.status, self.driver.get_log("browser"))
            time.sleep(0.05)

    def settle(self):
        """Wait until the tiles are drawn and the link is written."""
        last = None
        for _ in range(40):
            time.sleep(0.4)
            now = self.hash, self.driver.get_screenshot_as_base64()
            if now == last:
                return
            last = now

    @property
    def status(self):
        return self.text("status")

    @property
    def hash(self):
        return self.run("return location.hash")

    def text(self, name):
        return self.run("return document.getElementById(arguments[0]).innerText", name)

    def legend(self, side="left"):
        """Counts and pressed state by category."""
        return {
            name: (int(count.replace(",", "")), pressed == "true")
            for name, count, pressed in self.run(
                "return [...document.querySelectorAll(`#legend-${arguments[0]} button`)].map(b =>"
                "[b.children[1].textContent, b.children[2].textContent, b.getAttribute('aria-pressed')])",
                side,
            )
        }

    def choose(self, name, value):
        self.run(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change'))",
            name,
            value,
        )
        self.settle()

    def press(self, selector):
        self.run("document.querySelector(arguments[0]).click()", selector)
        self.settle()

    def mouse(self, kind, x, y, pressed=True):
        place = {"x": x, "y": y, "button": "left" if pressed else "none", "clickCount": 1, "buttons": int(pressed)}
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind} | place)

    def click(self, x, y):
        self.mouse("mouseMoved", x, y, False)
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)
        self.settle()

    def drag(self, places):
        self.mouse("mouseMoved", *places[0], False)
        self.mouse("mousePressed", *places[0])
        for place in places[1:]:
            self.mouse("mouseMoved", *place)
        self.mouse("mouseReleased", *places[-1])
        self.settle()

    def key(self, key):
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            self.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": kind, "key": key} | text)
        self.settle()

    def place(self, x, y):
        """Where a place of the H&E (px, centres at integers) is on the screen, out of the link of the view."""
        view = dict(part.split("=") for part in self.hash[1:].split("&") if part[:2] in ("x=", "y=", "z="))
        box = self.run(
            "const b = document.getElementById('stage').getBoundingClientRect();"
            "return [b.left + b.width / 2, b.top + b.height / 2]"
        )
        scale = float(view["z"]) * made.MPP
        return box[0] + (x - float(view["x"])) * scale, box[1] + (y - float(view["y"])) * scale

    def picture(self):
        png = base64.b64decode(self.driver.get_screenshot_as_base64())
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)

    def colour(self, x, y):
        """Colour of the screen where a place of the H&E is."""
        column, row = (round(at - 0.5) for at in self.place(x, y))
        return tuple(self.picture()[row, column])

    def tile(self):
        """The quadruple tile of the selected cell."""
        drawn = "document.querySelector('#tile canvas[data-drawn]')"
        self.wait(lambda: self.run(f"return {drawn} !== null"))
        found = self.run(f"return [...{drawn}.getContext('2d').getImageData(0, 0, 224, 224).data]")
        return np.array(found).reshape(224, 224, 4)[:, :, :3]

    def complaints(self):
        """What the console says, but for Chromium's own word on reading WebGL back where there is no GPU."""
        return [line for line in self.driver.get_log("browser") if "GPU stall due to ReadPixels" not in line["message"]]

    def requests(self):
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                yield message["params"]["request"]["url"]


@pytest.fixture(scope="module")
def page():
    with browser.running() as driver:
        yield Page(driver)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A sample, and the folder with its viewer and the list."""
    folder = tmp_path_factory.mktemp("viewer")
    sample = made.sample(folder)
    summary = made.write(folder / "viewer/s1", sample)
    viewer.write_index(folder / "viewer", [summary | {"scores": []}])
    return sample, folder / "viewer"


@pytest.fixture(scope="module")
def address(shown):
    return (shown[1] / "s1/index.html").as_uri()


@pytest.fixture(scope="module")
def served(shown):
    """The same from a server that knows no ranges."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=shown[1]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/s1/index.html"
    server.shutdown()
    server.server_close()


def table(sample):
    """Everything that is drawn, by cell."""
    cells = sample.table.set_index("cell_id")
    cells["annotated"] = sample.annotation.set_index("cell_id")["cell_type"].reindex(cells.index)
    for system, found in sample.predictions.items():
        cells[system] = found.obs["cell_type"].astype(str).reindex(cells.index)
    return cells


def counts(column):
    return column.fillna("none").value_counts().to_dict()


def rgb(colour):
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))


@pytest.mark.parametrize("source", ["address", "served"])
def test_it_opens_without_a_word_or_an_outside_request(page, source, request):
    address = request.getfixturevalue(source)
    page.open(address)
    page.press("#theme")
    page.press("#swipe")
    page.press("#home")
    assert page.complaints() == []
    folder = address.rpartition("/")[0]
    asked = [url for url in page.requests() if not url.startswith(("data:", "blob:", "about:"))]
    assert len(asked) > 8
    assert [url for url in asked if not url.startswith(folder)] == []


def test_the_counts_are_those_of_the_tables(page, shown, address):
    page.open(address)
    cells = table(shown[0])
    assert page.status == "180 of 181 cells drawn; 1 have no nucleus and no place"
    for key, column in (("annotated", "annotated"), ("predicted.one", "one"), ("predicted.two", "two")):
        page.choose("left", key)
        assert {k: v[0] for k, v in page.legend().items() if v[0]} == counts(cells[column])
    page.choose("left", "agree.one")
    both = cells.dropna(subset=["annotated", "one"])
    same = int((both["annotated"] == both["one"]).sum())
    assert {k: v[0] for k, v in page.legend().items()} == {
        "the same": same,
        "another type": len(both) - same,
        "none": 181 - len(both),
    }
    page.choose("left", "predicted.one")
    page.press("#legend-left button")  # the first type is hidden
    left = 180 - int((cells["one"] == made.TYPES[0]).sum())
    assert page.status.startswith(f"{left} of 181 cells")
    page.choose("left", "annotated")  # and stays so under another colouring
    assert page.status.startswith(f"{left} of 181 cells")
    page.press("#reset")
    assert page.status.startswith("180 of 181 cells")


def test_a_threshold_leaves_out_what_is_below(page, shown, address):
    page.open(address)
    page.run("const e = document.querySelector('#filters input'); e.value = 150; e.dispatchEvent(new Event('input'))")
    values = shown[0].predictions["one"].obs["probability"]
    assert page.status.startswith(f"{int((np.round(values * 254) >= 150).sum())} of 181")
    page.settle()
    assert "range=probability.one%7E150%7E254" in page.hash


@pytest.mark.parametrize(("palette", "zoom"), [("paper", 1.2), ("colourblind", 1.2)])
def test_points_have_the_colours_of_the_palette_at_their_places(page, shown, address, palette, zoom):
    page.open(address, x=600, y=330, z=zoom, left="predicted.one", palette=palette)
    cells = table(shown[0]).dropna(subset=["one"]).query("300 < x < 900 and 150 < y < 500")
    picture = page.picture()
    assert set(cells["one"]) == set(made.TYPES)
    for cell in cells.itertuples():
        column, row = (round(at - 0.5) for at in page.place(cell.x, cell.y))
        assert tuple(picture[row, column]) == rgb(made.PALETTES[palette][cell.one]), cell.Index


def test_outlines_lie_where_they_are_and_the_picture_beneath_them(page, shown, address):
    page.open(address, x=602.5, y=302.5, z=6, left="predicted.one")
    cells = table(shown[0]).dropna(subset=["one"]).query("500 < x < 700 and 240 < y < 360")
    assert len(cells) >= 3
    picture = page.picture()
    for cell in cells.itertuples():
        colour = rgb(made.PALETTES["paper"][cell.one])
        for x, y in ((12, 0), (-12, 0), (0, 12)):
            column, row = (round(at - 0.5) for at in page.place(cell.x + x, cell.y + y))
            around = picture[row - 2 : row + 3, column - 2 : column + 3].reshape(-1, 3)
            assert (around == colour).all(axis=1).any(), (cell.Index, x, y)
        column, row = (round(at - 0.5) for at in page.place(cell.x, cell.y))
        beneath = shown[0].scales[0][:, int(cell.y), int(cell.x)]
        assert np.abs(picture[row, column] - beneath).max() < 12
    edge = page.place(599.5, 295)  # between two squares of the picture
    row, column = round(edge[1]), round(edge[0])
    reds = picture[row, column - 12 : column + 12, 0]
    assert np.abs(reds[:6] - 170).max() < 8
    assert np.abs(reds[-6:] - 180).max() < 8


def test_a_click_on_a_place_selects_its_cell_and_tells_what_is_known(page, shown, address):
    page.open(address, x=300, y=200, z=3)
    cells = table(shown[0]).query("100 < x < 400 and 80 < y < 300 and kept")
    for cell in list(cells.itertuples())[:3]:
        page.click(*page.place(cell.x + 2, cell.y - 2))
        page.wait(lambda name=cell.Index: page.text("facts") and page.text("cell-head") == name)
        facts = dict(line.split("\t") for line in page.text("facts").splitlines())
        assert facts["one: type"] == cell.one
        assert float(facts["nucleus width (µm)"]) == pytest.approx(cell.width_um, rel=2e-3)
        probability = shown[0].predictions["two"].obs.loc[cell.Index, "probability"]
        assert float(facts["two: probability"]) == pytest.approx(probability, rel=2e-3)
        assert len(page.run("return [...document.querySelectorAll('#near button')]")) == 2
    tile = page.tile()
    beneath = shown[0].scales[0][:, int(cell.y), int(cell.x)]
    assert np.abs(tile[56, 56] - beneath).max() < 12
    assert (tile[:112, 112:][[2, 2, 109, 109], [2, 109, 2, 109]] == 0).all(), "outside of the nucleus"
    assert np.abs(tile[56, 168] - tile[56, 56]).max() < 3
    page.click(*page.place(cell.x + 35, cell.y + 35))
    assert page.run("return document.getElementById('cell').hidden"), "there is no cell there"


def test_haematoxylin_is_that_of_scikit_image(page, shown, address):
    from skimage.color import hed2rgb, rgb2hed

    page.open(address, cell="cell003-1")
    tile = page.tile()[:, :112].astype(np.uint8)
    hed = rgb2hed(tile[:112])
    hed[:, :, 1:] = 0
    assert np.abs(hed2rgb(hed) * 255 - tile[112:]).max() < 2


def test_the_swipe_shows_a_system_on_each_side(page, shown, address):
    view = {"x": 600, "y": 330, "z": 1.2, "left": "predicted.one", "right": "predicted.two", "swipe": 0.5}
    page.open(address, **view)
    cells = table(shown[0]).dropna(subset=["one"]).query("200 < x < 1000 and 150 < y < 500 and one != two")
    script = (
        "const b = document.getElementById('divider').getBoundingClientRect(); return [b.left + b.width / 2, b.top]"
    )
    middle, top = page.run(script)

    def sides(middle):
        picture, seen = page.picture(), {"one": 0, "two": 0}
        for cell in cells.itertuples():
            column, row = (round(at - 0.5) for at in page.place(cell.x, cell.y))
            if abs(column - middle) > 12:
                side = "one" if column < middle else "two"
                assert tuple(picture[row, column]) == rgb(made.PALETTES["paper"][getattr(cell, side)])
                seen[side] += 1
        return seen

    first = sides(middle)
    assert min(first.values()) > 3
    page.drag([(middle - by, top + 200) for by in (0, 90, 180)])
    assert sides(middle - 180)["two"] > first["two"]
    before = page.hash
    page.run("document.getElementById('divider').focus()")
    page.key("ArrowRight")
    assert page.hash != before


def test_the_lasso_counts_and_saves_what_is_inside(page, shown, address, tmp_path):
    page.open(address, x=600, y=330, z=1.2, left="predicted.one")
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.press("#lasso")
    corners = [(300, 150), (700, 150), (700, 400), (500, 300), (300, 400)]  # a notch from below
    page.drag([page.place(*corner) for corner in corners])
    cells = table(shown[0]).query("300 < x < 700 and 150 < y < 400")
    notch = (cells["y"] - 300) > np.abs(cells["x"] - 500) / 2
    inside = cells[~notch]
    assert 0 < len(inside) < len(cells)
    assert page.text("selected") == f"{len(inside)} cells"
    rows = page.run(
        "return [...document.querySelectorAll('#composition table:nth-of-type(2) tr')].map(r =>"
        "[r.children[0].textContent, +r.children[1].textContent])"
    )
    assert dict(rows) == counts(inside["one"])
    page.press("#csv")
    page.wait(lambda: (tmp_path / "s1.csv").is_file())
    saved = pd.read_csv(tmp_path / "s1.csv").set_index("cell_id")
    assert set(saved.index) == set(inside.index)
    assert (saved["predicted type, one"] == inside["one"].fillna("none").loc[saved.index]).all()
    assert np.abs(saved[["x", "y"]] - inside.loc[saved.index, ["x", "y"]]).to_numpy().max() < 0.05


def test_search_goes_to_a_cell_and_shows_a_gene(page, shown, address):
    page.open(address)
    page.key("/")
    page.choose("query", "cell044-1")
    page.press("#search button")
    page.wait(lambda: page.text("cell-head") == "cell044-1")
    page.settle()
    cell = shown[0].table.set_index("cell_id").loc["cell044-1"]
    assert f"x={cell.x:.1f}&y={cell.y:.1f}" in page.hash
    page.choose("query", "cd3e")
    page.press("#search button")
    page.wait(lambda: "left=gene%3ACD3E%7Cexpected.one" in page.hash)
    assert "CD3E expected, one" in page.text("legend-left")
    page.choose("query", "nobody")
    page.press("#search button")
    assert page.status == "Neither a cell nor a gene shown here is called nobody"


@pytest.fixture(scope="module")
def spotted(tmp_path_factory):
    """A sample with cells and spots: the spots, and the address of their page."""
    folder = tmp_path_factory.mktemp("spots")
    spots = made.spots(folder)
    made.write(folder / "viewer/s1", made.sample(folder), spots)
    return spots, (folder / "viewer/s1/spots.html").as_uri()


def test_spots_are_drawn_as_circles_of_their_diameter(page, spotted):
    spots, address = spotted
    page.open(address, x=650, y=450, z=1.2, left="reason", palette="colourblind")
    table = spots.table.set_index("spot_id")
    assert page.status == f"{len(table)} of {len(table)} spots drawn"
    assert {name: number for name, (number, _) in page.legend().items() if number} == counts(table["reason"])
    colours = {"kept": "#0072b2", "little_tissue": "#d55e00"}  # the most frequent reason first
    picture, radius = page.picture(), made.SPOT_UM / made.MPP / 2
    inside = table.query("250 < x < 1000 and 150 < y < 700")
    assert set(inside["reason"]) == set(colours)
    for spot in inside.itertuples():
        for share, angle in ((0, 0), (0.93, 0), (0.93, 0.8), (0.93, 3.5), (1.07, 0), (1.07, 0.8), (1.07, 3.5)):
            x, y = page.place(spot.x + share * radius * np.cos(angle), spot.y + share * radius * np.sin(angle))
            within = tuple(picture[round(y - 0.5), round(x - 0.5)]) == rgb(colours[spot.reason])
            assert within == (share < 1), (spot.Index, share, angle)


def test_a_spot_close_up_is_an_outline_over_its_tissue(page, spotted):
    spots, address = spotted
    spot = spots.table.loc[9]
    page.open(address, x=spot.x, y=spot.y, z=3, left="reason")
    picture, radius = page.picture(), made.SPOT_UM / made.MPP / 2
    for angle in (0, 1, 2.5, 4):
        column, row = (
            round(at - 0.5) for at in page.place(spot.x + radius * np.cos(angle), spot.y + radius * np.sin(angle))
        )
        around = picture[row - 2 : row + 3, column - 2 : column + 3].reshape(-1, 3)
        assert (around == rgb("#0072b2")).all(axis=1).any(), angle
    column, row = (round(at - 0.5) for at in page.place(spot.x, spot.y))
    assert np.abs(picture[row, column] - spots.scales[0][:, int(spot.y), int(spot.x)]).max() < 12


def test_a_click_within_a_spot_selects_it_and_tells_what_is_known(page, spotted):
    spots, address = spotted
    page.open(address, x=650, y=450, z=1, left="tissue")
    radius = made.SPOT_UM / made.MPP / 2
    for spot in spots.table.loc[[10, 12, 27]].itertuples():
        page.click(*page.place(spot.x + 0.9 * radius, spot.y))
        page.wait(lambda name=spot.spot_id: page.text("facts") and page.text("cell-head") == name)
        facts = dict(line.split("\t") for line in page.text("facts").splitlines())
        assert float(facts["diameter (µm)"]) == made.SPOT_UM
        assert float(facts["number of cells"]) == spot.n_cells
        assert float(facts["share of tissue"]) == pytest.approx(spot.tissue, rel=2e-3)
        assert facts["filter"] == spot.reason
    assert np.abs(page.tile()[112, 112].astype(float) - spots.scales[0][:, int(spot.y), int(spot.x)]).max() < 12
    page.click(*page.place(spot.x + made.SPOT_STEP / 2, spot.y + made.SPOT_STEP / 2))
    assert page.run("return document.getElementById('cell').hidden"), "between the spots"


def test_spots_open_on_a_gene_and_lead_to_the_cells_at_the_same_place(page, spotted):
    spots, address = spotted
    page.open(address, x=600, y=330, z=1.2)
    assert f"left={made.GENES[0]}".replace("left=", "left=gene%3A") in page.hash
    assert f"{made.GENES[0]} expected, spotty" in page.text("legend-left")
    page.choose("query", "cd3e")
    page.press("#search button")
    page.wait(lambda: "CD3E expected, spotty" in page.text("legend-left"))
    page.choose("left", "gene:CD3E|measured")
    assert "CD3E counts" in page.text("legend-left")
    page.press("#lasso")
    page.drag([page.place(*corner) for corner in ((300, 170), (800, 170), (800, 450), (300, 450))])
    inside = spots.table.query("300 < x < 800 and 170 < y < 450")
    assert page.text("selected") == f"{len(inside)} spots"
    counted = pd.DataFrame(ad.read_zarr(spots.store / "tables/table").X.toarray()).loc[inside.index, 2]
    said = page.run("return [...document.querySelectorAll('#composition p')].map(p => p.textContent)")[1]
    assert said.startswith("Mean of CD3E counts: ")
    assert float(said.rpartition(" ")[2]) == pytest.approx(counted.mean(), rel=0.05)
    assert page.complaints() == []
    before = dict(part.split("=") for part in page.hash[1:].split("&"))
    page.press("#other")
    page.wait(lambda: page.run("return document.documentElement.dataset.ready") == "all")
    page.settle()
    after = dict(part.split("=") for part in page.hash[1:].split("&"))
    assert page.status.startswith("180 of 181 cells drawn")
    assert [before[name] for name in "xyz"] == [after[name] for name in "xyz"]


def test_what_was_drawn_moves_along_and_is_drawn_anew_at_rest(page, shown, address):
    """While the view is dragged, points lie on their places all the time; at rest they are all there."""
    page.open(address, x=600, y=330, z=1.2, left="predicted.one")
    cells = table(shown[0]).dropna(subset=["one"]).query("400 < x < 800 and 200 < y < 450")
    middle = page.place(600, 330)
    page.run("window.drawings = 0; const draw = layer.points; layer.points = (...a) => { drawings++; draw(...a); }")
    page.mouse("mouseMoved", *middle, False)
    page.mouse("mousePressed", *middle)
    for step in range(1, 9):
        page.mouse("mouseMoved", middle[0] + 4 * step, middle[1] + 3 * step)
        time.sleep(0.05)
    assert page.run("return drawings") == 0, "the picture moved, nothing was drawn"
    shift = page.run(
        "const v = camera(), m = new DOMMatrix(getComputedStyle(document.getElementById('cells')).transform);"
        "return [m.e - (drawn.left - v.left) * v.scale, m.f - (drawn.top - v.top) * v.scale, m.a]"
    )
    assert np.abs(np.array(shift) - [0, 0, 1]).max() < 1e-3
    page.mouse("mouseReleased", middle[0] + 32, middle[1] + 24)
    page.settle()
    assert page.run("return drawings") >= 1
    picture = page.picture()
    for cell in cells.itertuples():
        column, row = (round(at - 0.5) for at in page.place(cell.x, cell.y))
        assert tuple(picture[row, column]) == rgb(made.PALETTES["paper"][cell.one]), cell.Index
    far = page.place(600, 330)
    page.drag([(far[0] - 40 * step, far[1]) for step in range(12)])  # further than the margin
    cells = table(shown[0]).dropna(subset=["one"]).query("900 < x < 1200 and 200 < y < 450")
    picture = page.picture()
    for cell in cells.itertuples():
        column, row = (round(at - 0.5) for at in page.place(cell.x, cell.y))
        assert tuple(picture[row, column]) == rgb(made.PALETTES["paper"][cell.one]), cell.Index


@pytest.mark.parametrize("swipe", [None, 0.5])
@pytest.mark.parametrize("by", ["drag", "wheel"])
def test_a_picture_that_moves_along_shows_each_cell_at_its_place(page, shown, address, swipe, by):
    view = {"x": 600, "y": 330, "z": 1.2, "left": "predicted.one", "right": "predicted.two"}
    page.open(address, **view, **({"swipe": swipe} if swipe else {}))
    at = page.place(500, 330)  # beside the line between the sides
    page.run(
        "rest = () => {}; window.drawings = 0; const draw = layer.points;"
        "layer.points = (...a) => { drawings++; draw(...a); }"
    )  # it never rests
    if by == "drag":
        page.drag([(at[0] - 15 * step, at[1] + 10 * step) for step in range(6)])
    else:
        page.mouse("mouseMoved", *at, False)
        wheel = {"type": "mouseWheel", "x": at[0], "y": at[1], "deltaX": 0, "deltaY": -100}
        page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", wheel)
        page.settle()
    assert page.run("return drawings") == 0
    scale, left, top = page.run("const v = camera(); return [v.scale, v.left, v.top]")
    assert (scale > 0.61) == (by == "wheel")
    box = page.run(
        "const b = document.getElementById('stage').getBoundingClientRect(); return [b.left, b.top, b.width]"
    )
    cells, picture, seen = table(shown[0]).dropna(subset=["one"]), page.picture(), {"one": 0, "two": 0}
    for cell in cells.query("400 < x < 850 and 200 < y < 450").itertuples():
        x, y = (cell.x - left) * scale, (cell.y - top) * scale
        side = "two" if swipe and x > swipe * box[2] else "one"
        colour = rgb(made.PALETTES["paper"][getattr(cell, side)])
        row, column = round(box[1] + y - 0.5), round(box[0] + x - 0.5)
        if abs(x - box[2] / 2) > 12:
            near = picture[row - 1 : row + 2, column - 1 : column + 2].reshape(-1, 3)
            assert np.abs(near - colour).sum(axis=1).min() < 12, cell.Index
            seen[side] += 1
    assert seen["one"] > 2
    assert (seen["two"] > 2) == bool(swipe)


def test_many_points_are_drawn_in_parts_all_of_them_at_rest(page, shown, address):
    page.open(address, x=600, y=330, z=1.2, left="predicted.one")
    cells = table(shown[0]).dropna(subset=["one"])

    def all_there(region):
        picture = page.picture()
        for cell in cells.query(region).itertuples():
            column, row = (round(at - 0.5) for at in page.place(cell.x, cell.y))
            assert tuple(picture[row, column]) == rgb(made.PALETTES["paper"][cell.one]), cell.Index

    parts = "return [drawn === drawing, drawn.next, drawn.parts]"
    page.run("partPoints = 30; refresh()")
    page.wait(lambda: page.run(parts) in [[True, n, n] for n in (5, 6)])
    all_there("300 < x < 900 and 150 < y < 500")
    at = page.place(600, 330)
    page.mouse("mouseMoved", *at, False)
    page.mouse("mousePressed", *at)
    for step in range(1, 12):  # beyond what had been drawn
        page.mouse("mouseMoved", at[0] - 40 * step, at[1])
        time.sleep(0.03)
    drew, total = page.run(parts)[1:]
    assert drew == 1 < total, "a part of the points while the view moves"
    page.mouse("mouseReleased", at[0] - 440, at[1])
    page.settle()
    page.wait(lambda: page.run("return drawn === drawing && drawn.next === drawn.parts"))
    all_there("900 < x < 1200 and 150 < y < 500")


def test_a_link_keeps_the_view(page, shown, address):
    page.open(
        address, x=500, y=300, z=2, left="annotated", hide="annotated~Tumour", cell="cell003-1", palette="colourblind"
    )
    link, first = page.run("return location.href"), page.picture()
    page.open(link)
    assert page.run("return location.href") == link
    assert (np.abs(page.picture() - first).max(axis=-1) > 8).mean() < 0.002
    assert not page.legend()["Tumour"][1]


@pytest.mark.parametrize(("measure", "low", "high"), [("probability", 0, 0.5), ("entropy", 0.25, None)])
def test_a_link_shows_a_range_in_the_units_of_its_colouring(page, shown, address, measure, low, high):
    values = shown[0].predictions["one"].obs[measure].to_numpy(float)
    top = 1 if measure == "probability" else values.max()
    codes = np.round(values / top * 254)  # as the page has them
    number = int(
        ((codes >= round(low / top * 254)) & (codes <= (254 if high is None else round(high / top * 254)))).sum()
    )
    assert 0 < number < len(values)
    page.open(f"{address}#left=predicted.one&between={measure}.one~{low}" + (f"~{high}" if high else ""))
    assert page.status.startswith(f"{number} of 181 cells")


def test_a_link_of_the_report_shows_the_cells_behind_a_confusion(page, shown, address):
    page.open(f"{address}#left=predicted.one&only=annotated~Tumour&only=predicted.one~Fibroblast")
    cells = table(shown[0]).dropna(subset=["x"])
    number = int(((cells["annotated"] == "Tumour") & (cells["one"] == "Fibroblast")).sum())
    assert number > 0
    assert page.status.startswith(f"{number} of 181 cells")


def test_a_saved_picture_holds_slide_cells_and_legend(page, shown, address, tmp_path):
    page.open(address, x=650, y=450, z=2.2, left="predicted.one")
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    on_screen = page.picture()
    left, top = page.run("const b = document.getElementById('stage').getBoundingClientRect(); return [b.left, b.top]")
    page.press("#png")
    page.wait(lambda: (tmp_path / "s1.png").is_file())
    with Image.open(tmp_path / "s1.png") as image:
        saved = np.asarray(image.convert("RGB")).astype(int)
    # The whole view lies within the slide: what is around it is white in the file.
    same = on_screen[round(top) :, round(left) :][: saved.shape[0], : saved.shape[1]]
    differs = np.abs(saved - same).max(axis=-1) > 8
    assert differs[:-220].mean() < 0.01
    assert (saved[-220:, :300] == rgb(made.PALETTES["paper"]["Tumour"])).all(axis=-1).sum() >= 80, "no legend"


def test_a_phone_shows_it_all(page, address):
    page.open(address, width=390, height=844)
    assert page.run("return document.documentElement.scrollWidth") <= 390
    sizes = page.run(
        "return ['stage', 'query', 'left', 'legend-left'].map(n => document.getElementById(n).getBoundingClientRect())"
        ".map(b => [b.width, b.height, b.right])"
    )
    assert all(width > 60 and height > 15 and right <= 390 for width, height, right in sizes)
    assert page.status.startswith("180 of 181")


def test_everything_can_be_used_by_keys_and_is_named(page, address):
    page.open(address)
    before = page.hash
    page.key("+")
    assert page.hash != before
    page.key("s")
    assert "swipe=0.500" in page.hash
    nameless = page.run(
        "return [...document.querySelectorAll('button, input, select, [role=slider]')].filter(e =>"
        "!e.innerText?.trim() && !e.labels?.length && !e.getAttribute('aria-label')).map(e => e.outerHTML)"
    )
    assert nameless == []
    theme = page.run("return document.documentElement.dataset.theme")
    page.key("d")
    assert page.run("return document.documentElement.dataset.theme") != theme


def test_hostile_names_do_nothing(page, tmp_path):
    folder = tmp_path / "v"
    sample = made.sample(tmp_path, name=made.HOSTILE)
    summary = made.write(folder / "s1", sample)
    viewer.write_index(
        folder,
        [summary | {"scores": [{"system": made.HOSTILE, "protocol": "x", "n": 1, "weighted": 0.5, "macro": 0.5}]}],
    )
    page.open((folder / "s1/index.html").as_uri())
    assert page.text("title") == f"{made.HOSTILE}, strict"
    for name in (made.HOSTILE, made.ENDING):
        cell = sample.table.set_index("cell_id").loc[name]
        page.run("location.hash = `#x=${arguments[0]}&y=${arguments[1]}&z=3`", cell.x, cell.y)
        page.settle()
        page.mouse("mouseMoved", *page.place(cell.x, cell.y), False)
        page.wait(lambda name=name: name in page.text("tip"))
        page.click(*page.place(cell.x, cell.y))
        page.wait(lambda name=name: page.text("cell-head") == name)
        page.choose("query", name)  # a gene of that name
        page.press("#search button")
        page.wait(lambda name=name: f"{name} expected, one" in page.text("legend-left"))
    inert = "return [document.querySelectorAll('img, iframe, [onerror]').length, document.scripts.length]"
    images, scripts = page.run(inert)
    assert (images, scripts) == (0, 3)
    assert page.complaints() == []
    page.driver.get((folder / "index.html").as_uri())
    page.wait(lambda: page.run("return document.querySelectorAll('article').length") == 1)
    assert page.run("return document.querySelector('h2').textContent") == made.HOSTILE
    assert page.run("return document.querySelectorAll('img[src=x], [onerror]').length") == 0


def test_a_folder_that_was_not_copied_whole_says_so(page, shown, tmp_path):
    shutil.copytree(shown[1], tmp_path / "v")
    next((tmp_path / "v/s1").glob("cells-*.js")).unlink()
    page.driver.get((tmp_path / "v/s1/index.html").as_uri())
    page.wait(lambda: "was the folder copied whole?" in page.status)


def test_a_run_writes_one_of_each_sample_and_leads_there(page, tiny):
    results = tiny / R
    for sample in ("sim_train", "sim_lung"):
        page.open((results / f"viewer/{sample}/index.html").as_uri())
        cells = pd.read_parquet(results / f"samples/{sample}/cells.parquet").set_index("cell_id")
        label = pd.read_parquet(results / f"samples/{sample}/annotation.parquet").set_index("cell_id")["cell_type"]
        found = ad.read_h5ad(results / f"predictions/shest/strict/{sample}.cells.h5ad", backed="r").obs["cell_type"]
        assert page.status.startswith(f"{int(cells['x'].notna().sum())} of {len(cells)} cells drawn")
        for key, column in (("annotated", label), ("predicted.shest", found.astype(str))):
            page.choose("left", key)
            assert {k: v[0] for k, v in page.legend().items() if v[0]} == counts(column.reindex(cells.index))
        assert page.complaints() == []
    page.driver.get((results / "viewer/index.html").as_uri())
    page.wait(lambda: page.run("return document.querySelectorAll('article').length") == 2)
    assert page.run("return [...document.images].every(i => i.complete && i.naturalWidth > 50)")
    assert page.complaints() == []
    page.driver.get((results / "report.html").as_uri())
    links = page.run("return [...document.querySelectorAll('a[href^=\"viewer/\"]')].map(a => a.href)")
    assert len(links) >= 5
    into = {
        kind: [link for link in links if kind in link] for kind in ("only=annotated", "between=", "only=agree", "gene")
    }
    assert len(into["gene"]) == 2 * 3  # figure 7 shows three markers, one of which was not measured
    assert sum("LTBP2%7Cmeasured" in link for link in into["gene"]) == 0
    assert sum("CD3E%7Cmeasured" in link for link in into["gene"]) == 2
    into["swipe"] = [link for link in links if "left=annotated&right=predicted" in link]  # figure 6
    for kind, found in into.items():
        page.open(found[-1])
        shown, of = (int(word.replace(",", "")) for word in page.status.split()[:3:2])
        assert 0 < shown <= of, kind
        assert shown < of or kind == "swipe", kind
        assert "not on this page" not in page.status
        assert page.complaints() == []
    page.open((results / "viewer/sim_lung/index.html").as_uri() + "#left=gene:NOBODY|measured")
    assert page.status.endswith("also asks for gene:NOBODY|measured: not on this page")
