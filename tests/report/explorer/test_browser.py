"""The page in headless Chromium: what a person would see and do.

Skipped where Playwright or a Chromium is missing: ``pip install playwright`` and Debian's
``chromium`` (or ``playwright install chromium``).
"""

from __future__ import annotations

import base64
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from basin.report.collect import collect
from basin.report.explorer.field import MARGIN, levels_on_plane
from basin.report.explorer.page import write_explorer
from basin.report.explorer.plane import plane_of
from basin.report.explorer.spline import spline_values
from helpers.explored_runs import gaussian_run
from helpers.statistics import assert_different_law, assert_same_law, normal_cdf

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

STEP = 0.6  # of the exact-start tests; the variance of N(0, I) blurred by 0.1 is 1.01
OWN = 1  # place of the run's own level on the page's ladder
NUM_BATCHES = 10  # of 2,000 walkers


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_api.sync_playwright() as playwright:
        try:
            # Root, as in a container, has no sandbox; the page is our own.
            started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run = gaussian_run(tmp_path_factory.mktemp("run") / "two")
    write_explorer(run.folder, run=run.run, dataset=run.dataset)
    return run


class Opened:
    """A page, and what went wrong on it or was fetched by it."""

    def __init__(self, browser, made, link: str = "", **context):
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.complaints, self.fetched = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.fetched.append(request.url))
        self.page.goto((made.folder / "explore.html").as_uri() + link)

    def __call__(self, script: str, argument=None):
        return self.page.evaluate(f"(argument) => {script}", argument)

    def explorer(self, script: str, argument=None):
        return self(f"window.basin.explorer.{script}", argument)

    def wait_until(self, condition: str) -> None:
        """Playwright's own waiting evaluates text, which the page's policy forbids."""
        for _ in range(600):
            if self(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never came true: {condition}")

    def places(self) -> np.ndarray:
        walkers = "window.basin.explorer.walkers"
        found = self(
            f"[{walkers}.x, {walkers}.y].map((v) => Array.from(v).slice(0, {walkers}.count))"
        )
        return np.array(found).T


@pytest.fixture
def opened(browser, made):
    page = Opened(browser, made)
    yield page
    page.context.close()
    assert page.complaints == []
    assert len(page.fetched) == 1  # the file itself


def test_the_script_evaluates_the_spline_that_python_made(opened, made):
    record = collect(made.folder, run=made.run, dataset=made.dataset)
    random = np.random.default_rng(0)
    for k, level in enumerate(levels_on_plane(record, plane_of(record))):
        cells = random.uniform(0, level.cells, (50, 2))
        points = np.asarray(level.low) + level.spacing * cells
        found = opened(
            "argument[1].map(([x, y]) => { const out = [0, 0, 0]; "
            "window.basin.explorer.fields[argument[0]].at(x, y, out); return out; })",
            [k, points.tolist()],
        )
        value, gradient = spline_values(level.coefficients.astype(np.float64), cells + MARGIN)
        assert np.allclose(np.array(found)[:, 0], value, rtol=1e-9)
        assert np.allclose(np.array(found)[:, 1:], gradient / level.spacing, rtol=1e-6, atol=1e-9)


def walked(opened, start: torch.Tensor, *, is_mala: bool) -> torch.Tensor:
    """First coordinates of walkers that began at ``start`` ``[n, 2]`` and took 20 steps."""
    script = """{
      const page = window.basin.explorer, { walkers } = page, ends = [];
      const bytes = Uint8Array.from(atob(argument.start), (letter) => letter.charCodeAt(0));
      const start = new Float64Array(bytes.buffer);
      page.settings.step_size = Math.log10(argument.step / page.fields[1].sigma ** 2);
      page.settings.mala = argument.mala;
      for (let from = 0; from < start.length; from += 2 * walkers.count) {
        for (let i = 0; i < walkers.count; i++) {
          walkers.place(i, start[from + 2 * i], start[from + 2 * i + 1], page.fields[1]);
        }
        page.run(20);
        ends.push(...walkers.x);
      }
      return ends;
    }"""
    text = base64.b64encode(start.double().numpy().tobytes()).decode()
    return torch.tensor(opened(script, {"start": text, "mala": is_mala, "step": STEP}))


def exact_start(generator, variance: float) -> torch.Tensor:
    return variance**0.5 * torch.randn((2000 * NUM_BATCHES, 2), generator=generator)


@pytest.mark.statistical
def test_walkers_leave_their_law_alone(opened, made, generator):
    opened.page.locator("#num_walkers").fill("2000")
    levels = opened("window.basin.explorer.fields.map((field) => field.sigma)")
    assert levels[OWN] == made.config["sigma"] == 0.1
    assert opened.explorer("settings.sigma") == OWN
    precision = 1 / 1.01
    exact = 1 / precision
    biased = 1 / (precision * (1 - STEP * precision / 2))  # of unadjusted Langevin
    with_mala = walked(opened, exact_start(generator, exact), is_mala=True)
    assert_same_law(with_mala, normal_cdf(0.0, exact**0.5))
    without = walked(opened, exact_start(generator, biased), is_mala=False)
    assert_same_law(without, normal_cdf(0.0, biased**0.5))
    # The mutant: MALA that takes every step.
    mutant = walked(opened, exact_start(generator, exact), is_mala=False)
    assert_different_law(mutant, normal_cdf(0.0, exact**0.5))


def test_the_histogram_approaches_the_truth(opened):
    opened.page.locator("#mala").check()
    opened.page.locator("#step_size").fill("1")
    opened.page.locator("#num_walkers").fill("2000")
    opened.page.locator("#start").select_option("uniform")
    before = opened.explorer("divergence()")
    opened.explorer("run(600)")
    after = opened.explorer("divergence()")
    assert before > 1
    assert after < 0.05
    assert opened.page.locator("#kl").text_content() == f"{after:.3f}"
    opened.page.locator("#temperature").fill("0.5")  # another law: the histogram begins anew
    opened.explorer("run(1)")
    assert opened.explorer("divergence()") > 2 * after


def test_play_moves_the_walkers_and_pause_stops_them(opened):
    before = opened.places()
    opened.page.locator("#play").click()
    opened.wait_until("window.basin.explorer.steps() > 4")
    assert opened.page.locator("#play").text_content() == "Pause"
    opened.page.locator("#play").click()
    steps = opened.explorer("steps()")
    after = opened.places()
    assert after.shape == before.shape
    assert (after != before).all()
    opened.page.locator("#step").click()
    assert opened.explorer("steps()") == steps + 1
    opened.page.locator("#reset").click()
    assert np.array_equal(opened.places(), before)


def test_a_frame_takes_no_more_steps_than_it_has_time_for(opened):
    """On a clock that gives every step a second; without a limit there would be 20."""
    opened.page.locator("#speed").fill("20")
    opened("{ let now = 0; performance.now = () => (now += 1000); }")
    opened.page.locator("#play").click()
    opened.wait_until("window.basin.explorer.steps() > 14")
    assert "time for only 1 of 20 steps a frame" in opened.page.locator("#readout").text_content()
    opened.page.locator("#play").click()
    opened.page.wait_for_timeout(100)
    assert "time for" not in opened.page.locator("#readout").text_content()


def test_sliders_act_and_say_their_values(opened):
    page = opened.page
    page.locator("#num_walkers").fill("40")
    assert len(opened.places()) == 40
    page.locator("#sigma").fill("5")
    sigma = opened("window.basin.explorer.fields[5].sigma")
    assert float(page.locator("#sigma_out").text_content()) == pytest.approx(sigma, rel=5e-3)
    page.locator("#temperature").fill("1")
    assert page.locator("#temperature_out").text_content() == "10"
    page.locator("#step_size").fill("0")
    assert page.locator("#step_size_out").text_content().endswith("= 1 σ²")
    page.locator("#speed").fill("7")
    assert opened.explorer("settings.speed") == 7


def test_layers_change_the_map(opened):
    opened.page.wait_for_timeout(100)
    seen = set()
    for name in ("score", "data", "samples", "contours", "energy"):
        opened.page.locator(f"#{name}").click()
        opened.page.wait_for_timeout(100)
        seen.add(opened("document.getElementById('map').toDataURL()"))
    assert len(seen) == 5


WRITTEN = """{
  window.written = [];
  const write = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...where) {
    if (this.canvas.id === "axes") window.written.push(text);
    write.call(this, text, ...where);
  };
}"""


@pytest.mark.parametrize(
    ("offset", "factor", "expected"),
    [
        (2005, 1, {"2002", "2004", "2006"}),  # three digits would say 2000, 2000, 2010
        (0, 1, {"−2", "0", "2"}),
        (0, 0.01, {"−0.02", "0", "0.02"}),
        (0, 1e-7, {"−2 × 10⁻⁷", "0", "2 × 10⁻⁷"}),
        (1e6, 2e4, {"950000", "1000000", "1050000"}),
        (1e9, 1, {"1.000000002 × 10⁹"}),
    ],
)
def test_numbers_along_the_axes_tell_neighbours_apart(
    browser, made, tmp_path, offset, factor, expected
):
    """On pages whose only change is what stands along their axes."""
    page = (made.folder / "explore.html").read_text("utf-8")
    ticks = f'"ticks": [[{offset}, {factor}], [{offset}, {factor}]]'
    changed, count = re.subn(r'"ticks": \[\[.*?\]\]', ticks, page)
    assert count == 1
    (tmp_path / "explore.html").write_text(changed, "utf-8")
    opened = Opened(browser, SimpleNamespace(folder=tmp_path))
    opened(WRITTEN)
    opened.page.keyboard.press("0")
    opened.page.wait_for_timeout(200)
    found = opened("window.written")
    assert expected <= set(found)
    numbers = [text for text in found if text[-1] in "0123456789⁰¹²³⁴⁵⁶⁷⁸⁹"]
    assert max(numbers.count(number) for number in numbers) <= 2  # once on each axis
    assert opened.complaints == []


def test_a_click_drops_walkers_where_it_falls(opened):
    box = opened.page.locator("#walkers").bounding_box()
    opened.page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    field = opened(
        "(({ lowX, lowY, side }) => [lowX, lowY, side])(window.basin.explorer.fields[1])"
    )
    target = np.array([field[0] + 0.75 * field[2], field[1] + 0.75 * field[2]])
    near = (np.abs(opened.places() - target) < 0.05 * field[2]).all(axis=1)
    assert 100 <= near.sum() < 115  # a tenth of 1,000, and those who were there


VIEW = "(({ centreX, centreY, half }) => [centreX, centreY, half])(window.basin.explorer.view())"


def on_the_map(opened, across: float, down: float) -> tuple[float, float]:
    """A place on the screen, from shares of the map's side."""
    box = opened.page.locator("#walkers").bounding_box()
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def seen_view(opened) -> np.ndarray:
    """Middle and half the side of what is shown, once it is drawn."""
    opened.page.wait_for_timeout(100)
    return np.array(opened(VIEW))


def test_a_drag_moves_the_map_and_drops_nothing(opened):
    x, y, half = seen_view(opened)
    walkers = opened.places()
    opened.page.mouse.move(*on_the_map(opened, 0.5, 0.5))
    opened.page.mouse.down()
    opened.page.mouse.move(*on_the_map(opened, 0.6, 0.55), steps=4)
    opened.page.mouse.move(*on_the_map(opened, 0.75, 0.4), steps=4)
    opened.page.mouse.up()
    # What lay in the middle lies a quarter to the right and a tenth higher now.
    assert seen_view(opened) == pytest.approx(
        [x - 0.5 * half, y - 0.2 * half, half], abs=0.01 * half
    )
    assert np.array_equal(opened.places(), walkers)
    opened.page.mouse.click(*on_the_map(opened, 0.75, 0.4))  # and a click falls where it is seen
    near = (np.abs(opened.places() - [x, y]) < 0.1 * half).all(axis=1)
    assert near.sum() >= 100
    opened.page.locator("#whole").click()
    assert seen_view(opened) == pytest.approx([x, y, half])


def test_the_map_stays_on_what_was_evaluated(opened):
    x, _, half = seen_view(opened)
    widest = max(opened("window.basin.explorer.fields.map((field) => field.side)"))
    for key in 8 * ["-"] + 12 * ["Shift+ArrowRight"]:
        opened.page.keyboard.press(key)
    assert seen_view(opened)[0] == pytest.approx(x + widest / 2, abs=0.001 * half)
    assert opened.explorer("settings.pan_y") == 0


def test_zoom_keeps_the_place_beneath_the_pointer(opened):
    x, y, half = seen_view(opened)
    opened.page.mouse.move(*on_the_map(opened, 0.75, 0.5))
    opened.page.mouse.wheel(0, -100)  # without Ctrl the page would scroll
    assert seen_view(opened) == pytest.approx([x, y, half])
    opened.page.keyboard.down("Control")
    opened.page.mouse.wheel(0, -200)
    opened.page.keyboard.up("Control")
    # Half as wide, and x + half / 2 still at three quarters.
    expected = [x + half / 4, y, half / 2]
    assert seen_view(opened) == pytest.approx(expected, abs=0.01 * half)


def test_a_link_restores_where_the_map_was_moved(browser, opened, made):
    opened.page.keyboard.press("Shift+ArrowUp")
    opened.page.keyboard.press("+")
    opened.page.locator("#link").click()
    again = Opened(browser, made, opened("location.hash"))
    assert seen_view(again) == pytest.approx(seen_view(opened))
    assert again.explorer("settings.pan_y") == 0.1
    again.page.keyboard.press("0")
    home = seen_view(again)
    assert home[2] == pytest.approx(2**0.5 * seen_view(opened)[2])
    broken = Opened(browser, made, "#pan_x=1e9&pan_y=x")
    broken.explorer("run(1)")
    assert np.isfinite(seen_view(broken)).all()
    assert again.complaints == broken.complaints == []


def test_two_fingers_move_and_zoom_and_one_scrolls_the_page(browser, made):
    size = {"width": 390, "height": 600}
    page = Opened(browser, made, viewport=size, has_touch=True, is_mobile=True)
    x, y, half = seen_view(page)
    walkers = page.places()
    session = page.context.new_cdp_session(page.page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [
            {"x": px, "y": py, "id": k}
            for k, (px, py) in enumerate(on_the_map(page, *place) for place in places)
        ]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (0.4, 0.5))
    touch("touchStart", (0.4, 0.5), (0.6, 0.5))
    for k in range(1, 5):  # apart to twice the distance, and the middle a fifth to the right
        touch("touchMove", (0.4 + 0.025 * k, 0.5), (0.6 + 0.075 * k, 0.5))
    touch("touchEnd")
    expected = [x - 0.2 * half, y, half / 2]
    assert seen_view(page) == pytest.approx(expected, abs=0.02 * half)
    assert page("window.scrollY") == 0
    before = seen_view(page)
    start = on_the_map(page, 0.5, 0.8)
    session.send("Input.synthesizeScrollGesture", {"x": start[0], "y": start[1], "yDistance": -150})
    page.wait_until("window.scrollY > 50")
    assert np.array_equal(seen_view(page), before)
    assert np.array_equal(page.places(), walkers)
    assert page.complaints == []
    page.context.close()


def test_every_control_has_a_key(opened):
    keyboard = opened.page.keyboard
    keyboard.press("Space")
    assert opened.page.locator("#play").text_content() == "Pause"
    keyboard.press("Space")
    steps = opened.explorer("steps()")
    keyboard.press(".")
    assert opened.explorer("steps()") == steps + 1
    keyboard.press("]")
    assert opened.explorer("settings.sigma") == OWN + 1
    keyboard.press("[")
    keyboard.press("m")
    assert opened.page.locator("#mala").is_checked()
    keyboard.press("s")
    assert opened.page.locator("#score").is_checked()
    keyboard.press("r")
    assert opened.explorer("steps()") == 0
    opened.page.locator("#walkers").focus()
    for _ in range(4):
        keyboard.press("ArrowRight")
    keyboard.press("Shift+Enter")
    half = opened("window.basin.explorer.fields[1].side / 2")
    centre = opened("window.basin.explorer.fields[1].lowX") + half
    assert opened.places()[:, 0] == pytest.approx(centre + 0.2 * half, abs=0.1 * half)


def test_a_link_restores_the_view_and_the_walk(browser, opened, made):
    page = opened.page
    page.locator("#sigma").fill("4")
    page.locator("#mala").check()
    page.locator("#num_walkers").fill("60")
    page.locator("#score").check()
    page.locator("#reset").click()
    opened.explorer("run(5)")
    link = opened("location.hash")
    again = Opened(browser, made, link)
    again.explorer("run(5)")
    assert again.explorer("settings") == opened.explorer("settings")
    assert np.array_equal(again.places(), opened.places())
    broken = Opened(browser, made, "#sigma=99&num_walkers=x&temperature=1e9&layers=<b>&start=%00")
    broken.explorer("run(2)")
    assert broken.explorer("settings.sigma") == 8
    assert again.complaints == broken.complaints == []


def test_from_noise_walks_down_to_the_level_of_the_run(opened):
    opened.page.locator("#anneal").click()
    assert opened.explorer("settings.sigma") == 8
    opened.explorer("run(430)")  # 60 at each of 7 levels
    assert opened.explorer("settings.sigma") == OWN


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1400])
def test_nothing_lies_outside_the_screen(browser, made, width, scheme):
    page = Opened(
        browser, made, viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=True
    )
    assert page("document.scrollingElement.scrollWidth") <= width
    box = page.page.locator("#walkers").bounding_box()
    page.page.touchscreen.tap(box["x"] + 20, box["y"] + 20)
    page.explorer("run(1)")
    assert page.complaints == []


def test_a_name_of_the_run_never_becomes_script(browser, tmp_path):
    nasty = "</script><script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'>"
    run = gaussian_run(
        tmp_path / "run", kind="table", spread=np.ones(2), columns=[nasty, nasty], name=nasty
    )
    write_explorer(run.folder, run=run.run, dataset=run.dataset)
    page = Opened(browser, run)
    page.explorer("run(1)")
    assert page("window.harmed") is None
    assert page.complaints == []
    assert len(page.fetched) == 1


def test_images_walk_from_noise(browser, tmp_path):
    run = gaussian_run(tmp_path / "run", (1, 4, 4), kind="images")
    write_explorer(run.folder, run=run.run, dataset=run.dataset)
    page = Opened(browser, run)
    picture = "document.getElementById('noisy').toDataURL()"
    last = page(picture)
    page.page.locator("#frame").fill("0")
    assert page("document.getElementById('frame_out').textContent") == "σ = 20"
    assert page(picture) != last
    page.page.locator("#walk_play").click()
    page.wait_until("window.basin.walk.frame() > 2")
    assert page.complaints == []
