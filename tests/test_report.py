"""The report: self-contained, without script errors in a real browser, with true figures in it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from omnimatte_cli.camera.exposure import Exposure
from omnimatte_cli.camera.model import Camera, write_camera
from omnimatte_cli.cli import app
from omnimatte_cli.deliver.charts import Chart, Series, draw, ticks_of
from omnimatte_cli.deliver.read import read_result
from omnimatte_cli.deliver.report import find_masks
from omnimatte_cli.deliver.survey import camera_motion, charts_of, ranges, survey, warnings_of
from omnimatte_cli.progress import Silent
from tests.results import FRAMES, SIZE, make_result

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = make_result(tmp_path_factory.mktemp("report"), drift=2.0)
    done = CliRunner().invoke(app, ["report", str(out)])
    assert done.exit_code == 0 and done.stdout.strip() == str(out / "report.html")
    return out


class Page(HTMLParser):
    """Collects what a page would load, its text, and whether its tags are closed."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text, self.open, self.images = "", [], []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        facts = dict(attrs)
        self.loads += [facts[k] for k in ("src", "href", "data", "poster", "srcset") if k in facts]
        if tag == "img":
            self.images.append(facts["alt"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        """Closed by itself."""

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_loads_nothing(out: Path) -> None:
    text = (out / "report.html").read_text()
    page = Page(text)
    assert not page.open
    assert page.loads and all(x.startswith("data:") for x in page.loads)
    assert not re.search(r"url\(|@import|https?://", text)
    assert len(text) < 2_000_000


def test_the_page_shows_every_image(out: Path) -> None:
    page = Page((out / "report.html").read_text())
    for name in ("ball", "box"):
        for what in ("on a checkerboard", "over a new ground"):
            assert page.images.count(f"{name} {what}") == 3
        assert page.images.count(f"Alpha of {name} with its mask's outline") == 3
    assert sum(a.startswith("Input, frame") for a in page.images) == 3
    assert "Without objects" in page.images and "Canvas" in page.images
    assert "A note <of> masks." in page.text  # escaped
    assert "41.0 dB" in page.text and "options" in page.text.lower()


def test_charts_and_warnings_tell_the_truth(out: Path) -> None:
    result = read_result(out)
    found = survey(result, find_masks(result), Silent())
    assert found.frames == tuple(range(FRAMES))
    assert min(found.rebuilt) > 55  # type: ignore[type-var]
    assert max(found.plate_error) < 30  # type: ignore[type-var]  # the clean one is dark, and still
    # A shadow of half alpha: 5 rows by 17 columns, without what the ball hides.
    assert found.effects["ball"][4] == pytest.approx(0.5 * 5 * 17 / (40 * 72), rel=0.05)
    assert found.effects["box"] == (0,) * FRAMES
    assert camera_motion(result) == pytest.approx([0.0] + [2.0] * 7)
    texts = {f.text: f.frames for f in warnings_of(result, found)}
    assert any("2.0%" in t and "guess" in t for t in texts)
    assert [f for t, f in texts.items() if "parallax" in t] == ["7"]
    assert [f for t, f in texts.items() if "cut" in t] == ["4"]


def test_drifting_light_has_a_chart_before_a_still_camera(tmp_path: Path) -> None:
    out = make_result(tmp_path)
    gains = [np.full(3, 1 - 0.02 * t) for t in range(FRAMES)]
    light = [replace(Exposure.none(), gain=gain).described() for gain in gains]
    camera = Camera.static(FRAMES, SIZE)
    write_camera(camera, out / "camera.json", {"exposure": light})
    result = read_result(out)
    assert result.homographies is None
    charts = {c.title: c for c in charts_of(result, survey(result, None, Silent()))}
    assert "Camera" not in charts
    assert charts["Exposure"].series[0].values == pytest.approx([1 - 0.02 * t for t in range(8)])


def test_a_result_without_its_input_still_has_a_report(tmp_path: Path) -> None:
    out = make_result(tmp_path, residual=False)
    (tmp_path / "input.mkv").unlink()
    shutil.rmtree(tmp_path / "masks")
    assert CliRunner().invoke(app, ["report", str(out), "-q"]).exit_code == 0
    page = Page((out / "report.html").read_text())
    assert "is gone" in page.text and not any("mask" in a for a in page.images)
    assert "Reconstruction" not in page.text and "What the layers cover" in page.text


def browse(text: str, folder: Path) -> tuple[str, list[str]]:
    """Open a page from disk in Chromium: the page after its scripts ran, and what it complained of.

    A page that loads anything is complained of, as its security policy refuses that.
    """
    page = folder / "page.html"
    page.write_text(text)
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += [f"--user-data-dir={folder / 'profile'}", "--disable-background-networking"]
    command += ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=1000"]
    command += ["--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_browser_finds_no_fault(out: Path, tmp_path: Path) -> None:
    text = (out / "report.html").read_text()
    # The slider is moved, and the outcome written where the dumped page shows it.
    moved = "slider.value = 25; slider.dispatchEvent(new Event('input'));"
    moved += "document.title = 'at ' + wipe.style.getPropertyValue('--at') + ', loaded '"
    moved += (
        " + performance.getEntriesByType('resource').filter(e => !/^data:/.test(e.name)).length"
    )
    dom, complaints = browse(text.replace("</body>", f"<script>{moved}</script></body>"), tmp_path)
    assert complaints == [] and "<title>at 25%, loaded 0</title>" in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize(
    "fault", ["<script>nothing.at = 1</script>", "<img src='https://a.test/x'>"]
)
def test_the_browser_would_tell(fault: str, out: Path, tmp_path: Path) -> None:
    text = (out / "report.html").read_text()
    assert browse(text.replace("</body>", f"{fault}</body>"), tmp_path)[1]


# ------------------------------------------------------------------------------------------ charts


def test_a_chart_is_well_formed_and_drawn_to_scale() -> None:
    lines = (Series("a <b>", (0.0, 5.0, None, 10.0)),)
    root = ElementTree.fromstring(draw(Chart("A & B", "dB", (0, 1, 2, 3), lines, "", (2,))))
    path = next(e.attrib["d"] for e in root if e.tag == "path")
    pieces = re.findall(r"([ML])([\d.]+) ([\d.]+)", path)
    assert [p[0] for p in pieces] == ["M", "L", "M"]  # a gap breaks the line
    ys = [float(p[2]) for p in pieces]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (37.2, 41.9), (5, 5), (0.001, 0.0013), (-3, 90)])
def test_ticks_span_the_values(low: float, high: float) -> None:
    ticks = ticks_of(low, high)
    assert ticks[0] <= low + 1e-9 and ticks[-1] >= high - 1e-9 and 2 <= len(ticks) <= 8


def test_frames_are_written_as_ranges() -> None:
    assert ranges([3, 4, 5, 9, 7, 8]) == "3-5, 7-9" and ranges([2]) == "2" and ranges([]) == ""


def test_a_mask_of_low_confidence_is_doubtful(tmp_path: Path) -> None:
    from omnimatte_cli.deliver.survey import doubtful_masks

    path = tmp_path / "masks.json"
    path.write_text(json.dumps({"confidence": {"dog": [0.9, 0.2, 0.0, 0.3], "cat": [1, 1, 1, 1]}}))
    assert doubtful_masks(path) == {"dog": [1, 3]}  # 0: it is away
