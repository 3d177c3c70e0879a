"""The HTML page in a real browser, headless Chromium: it opens, sorts, folds, zooms, and its sums are the report's."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from html_models import Llama, ResNet, llama_405b
from torch import nn

import graphflops
from graphflops import Report

pytest.importorskip("selenium", reason="selenium drives the browser: pip install 'graphflops[dev]'")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="no Chromium with its chromedriver: apt install chromium chromium-driver"
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1280,900"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PHASES = ("total", "forward", "backward", "optimizer")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        yield driver
        driver.quit()


@pytest.fixture(scope="module")
def llama() -> Report:
    return graphflops.analyze(Llama(4, 32, 4, 2, 48, 64), (torch.zeros(1, 8, dtype=torch.int64),), optimizer="adamw")


@pytest.fixture
def opened(browser: webdriver.Chrome, tmp_path: Path) -> Iterator[Callable[[Report], webdriver.Chrome]]:
    """Opens the page of a report; after the test, its console has no errors."""

    def open_page(report: Report) -> webdriver.Chrome:
        browser.get(report.to_html(tmp_path / "report.html").as_uri())
        return browser

    yield open_page
    assert browser.get_log("browser") == []


@pytest.fixture
def page(opened: Callable[[Report], webdriver.Chrome], llama: Report) -> webdriver.Chrome:
    return opened(llama)


def rows(page: webdriver.Chrome) -> dict[str, dict[str, int]]:
    """Path → column → number, of all rows of the table."""
    script = """return [...document.querySelectorAll('#table tbody tr')].map(row => [row.dataset.path,
        Object.fromEntries([...row.querySelectorAll('[data-column]')]
            .map(cell => [cell.dataset.column, cell.dataset.value]))])"""
    return {
        path: {column: int(value) for column, value in cells.items() if column != "output"}
        for path, cells in page.execute_script(script)
    }


def cell(page: webdriver.Chrome, path: str) -> Any:
    return page.find_element(By.CSS_SELECTOR, f"#icicle [data-path='{path}']")


def row(page: webdriver.Chrome, path: str) -> Any:
    return page.find_element(By.CSS_SELECTOR, f"#table tr[data-path='{path}']")


def focused(page: webdriver.Chrome) -> str:
    return str(page.execute_script("return document.activeElement.dataset.path"))


def press(page: webdriver.Chrome, *keys: str) -> None:
    for key in keys:
        page.switch_to.active_element.send_keys(key)


def instances(path: str) -> list[str]:
    """The modules of a row, whose path may have one run of equal blocks: ``layers.0–3.mlp``."""
    first, dash, last = path.partition("–")
    if not dash:
        return [path]
    prefix, _, low = first.rpartition(".")
    high, dot, rest = last.partition(".")
    return [f"{prefix}.{i}{dot}{rest}" for i in range(int(low), int(high) + 1)]


def with_all_rows(page: webdriver.Chrome) -> dict[str, dict[str, int]]:
    page.find_element(By.ID, "free").click()
    page.find_element(By.ID, "unfold").click()
    return rows(page)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (Llama(4, 32, 4, 2, 48, 64), torch.zeros(1, 8, dtype=torch.int64)),
        lambda: (ResNet(), torch.zeros(2, 3, 8, 8)),
        llama_405b,
    ],
    ids=["llama", "resnet", "llama_405b"],
)
def test_its_sums_are_those_of_the_report(
    opened: Callable[[Report], webdriver.Chrome], make: Callable[[], tuple[nn.Module, torch.Tensor]]
) -> None:
    model, x = make()
    report = graphflops.analyze(model, (x,), optimizer="adamw")
    table = with_all_rows(opened(report))
    by_module = {phase: report.by_module(phase) for phase in PHASES}  # type: ignore[arg-type]
    modules = {path: cells for path, cells in table.items() if "·" not in path}
    assert {path for row_path in modules for path in instances(row_path)} == report.modules.keys()
    for path, cells in modules.items():
        for phase in PHASES:
            assert cells[phase] == sum(by_module[phase][module] for module in instances(path)), (path, phase)
        prefixes = tuple(f"{module}." if module else "" for module in instances(path))
        assert cells["params"] == sum(size for name, size in report.parameters.items() if name.startswith(prefixes))
    assert [table[""][phase] for phase in PHASES] == [report.total, report.forward, report.backward, report.optimizer]


def test_equal_blocks_are_one_row_with_their_number(page: webdriver.Chrome) -> None:
    assert "×4" in row(page, "layers.0–3").text
    assert row(page, "layers.0–3").get_attribute("aria-expanded") in ("true", "false")


def test_a_click_on_a_heading_sorts_among_siblings_and_a_third_restores_the_order(page: webdriver.Chrome) -> None:
    def children() -> list[str]:
        return [path for path in rows(page) if path and "." not in path and "·" not in path]

    heading = page.find_element(By.XPATH, "//th[button='forward']")
    own_order = children()
    for order, descending in (("descending", True), ("ascending", False)):
        page.find_element(By.XPATH, "//th/button[.='forward']").click()
        heading = page.find_element(By.XPATH, "//th[button='forward']")
        assert heading.get_attribute("aria-sort") == order
        numbers = [rows(page)[path]["forward"] for path in children()]
        assert numbers == sorted(numbers, reverse=descending)
    page.find_element(By.XPATH, "//th/button[.='forward']").click()
    assert children() == own_order


def test_rows_fold_and_unfold(page: webdriver.Chrome) -> None:
    page.find_element(By.ID, "fold").click()
    assert all("." not in path for path in rows(page))
    row(page, "layers").find_element(By.CLASS_NAME, "twist").click()
    assert "layers.0–3" in rows(page)
    assert "layers.0–3.mlp" not in rows(page)
    row(page, "layers").find_element(By.CLASS_NAME, "twist").click()
    assert "layers.0–3" not in rows(page)


def test_a_filter_shows_the_rows_that_match_and_those_around(page: webdriver.Chrome) -> None:
    page.find_element(By.ID, "filter").send_keys("o_proj")
    assert list(rows(page)) == ["", "layers", "layers.0–3", "layers.0–3.self_attn", "layers.0–3.self_attn.o_proj"]


def test_a_click_zooms_and_escape_zooms_out(page: webdriver.Chrome) -> None:
    whole = cell(page, "").size["width"]
    assert cell(page, "layers.0–3.mlp").size["width"] < whole
    cell(page, "layers.0–3.mlp").click()
    assert page.execute_script("return state.zoomed.path") == "layers.0–3.mlp"
    assert not page.find_elements(By.CSS_SELECTOR, "#icicle [data-path='layers']")
    assert cell(page, "layers.0–3.mlp").get_attribute("style").startswith("left: 0%; width: 100%")
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    assert page.execute_script("return state.zoomed.path") == "layers.0–3"


def test_the_keyboard_moves_in_the_icicle(page: webdriver.Chrome) -> None:
    page.execute_script("arguments[0].focus()", cell(page, ""))
    press(page, Keys.ARROW_DOWN)
    first = focused(page)
    assert first in ("embed", "layers")
    press(page, Keys.ARROW_RIGHT)
    assert focused(page) == ("layers" if first == "embed" else "norm")
    page.execute_script("arguments[0].focus()", cell(page, "layers"))
    press(page, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    assert page.execute_script("return state.zoomed.path") == "layers.0–3.self_attn"
    assert cell(page, "layers.0–3.self_attn").get_attribute("aria-selected") == "true"
    press(page, Keys.ESCAPE, Keys.ARROW_UP)
    assert focused(page) == "layers.0–3"


def test_the_keyboard_moves_and_folds_in_the_table(page: webdriver.Chrome) -> None:
    page.find_element(By.ID, "fold").click()
    page.execute_script("arguments[0].focus()", row(page, ""))
    press(page, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert focused(page) == "layers"
    assert "layers.0–3" in rows(page)
    press(page, Keys.ARROW_RIGHT)
    assert focused(page) == "layers.0–3"
    press(page, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert "layers.0–3" not in rows(page)


def test_both_views_are_trees_for_a_screen_reader(page: webdriver.Chrome) -> None:
    items = page.find_elements(By.CSS_SELECTOR, "#icicle[role=tree] > [role=treeitem][aria-level][aria-selected]")
    assert len(items) == len(page.find_elements(By.CSS_SELECTOR, "#icicle > *")) > 5
    assert "%" in str(items[1].get_attribute("aria-label"))
    assert len(page.find_elements(By.CSS_SELECTOR, "#table[role=treegrid] tbody tr[aria-level]")) == len(rows(page))
    in_tab_order = 'return [...document.querySelectorAll(\'#icicle [tabindex="0"], #table tr[tabindex="0"]\')].length'
    assert page.execute_script(in_tab_order) == 2


def test_a_selected_module_has_its_numbers_and_formulas(page: webdriver.Chrome, llama: Report) -> None:
    page.find_element(By.ID, "unfold").click()
    row(page, "lm_head").click()
    text = page.find_element(By.ID, "detail").text
    assert f"{llama.by_module('total')['lm_head']:,}" in text
    (call,) = (entry for entry in llama.select("lm_head") if entry.kind == "call")
    for part in (call.formula.forward, call.rule, call.line, "weight₁ = 32"):
        assert part in text


def test_a_phase_is_chosen(page: webdriver.Chrome, llama: Report) -> None:
    page.find_element(By.CSS_SELECTOR, "#phases [data-phase=optimizer]").click()
    shares = llama.by_module("optimizer")
    expected = shares["layers"] / shares[""]
    assert (
        cell(page, "layers")
        .get_attribute("style")
        .partition("width:")[2]
        .strip()
        .startswith(f"{100 * expected:.1f}"[:3])
    )
    assert f"{100 * expected:.1f} %" in row(page, "layers").text


def test_it_is_dark_where_the_system_is_and_the_button_switches(page: webdriver.Chrome) -> None:
    def ground() -> str:
        return str(page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color"))

    def emulate(scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    light, button = ground(), page.find_element(By.ID, "theme")
    try:
        emulate("dark")
        dark = ground()
        assert dark != light
        button.click()
        assert (ground(), button.get_attribute("aria-pressed")) == (light, "false")
        page.refresh()
        assert ground() == light  # it is kept
        page.find_element(By.ID, "theme").click()
        assert ground() == dark
    finally:
        page.execute_script("localStorage.clear()")
        emulate("")


def test_nothing_is_wider_than_a_phone(page: webdriver.Chrome) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
        page.execute_script("arguments[0].click()", cell(page, "layers"))
        assert page.find_element(By.ID, "detail").is_displayed()
        page.find_element(By.CSS_SELECTOR, "#detail .close").click()
        assert not page.find_element(By.ID, "detail").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_names_of_models_are_text(opened: Callable[[Report], webdriver.Chrome]) -> None:
    name = "<img src=x onerror=alert(1)></script>"
    model = type(name, (nn.Sequential,), {})(nn.Linear(2, 2), type(name, (nn.Linear,), {})(2, 2))
    model.add_module(name, nn.Linear(2, 2))
    report = graphflops.analyze(model, (torch.zeros(1, 2),))
    page = opened(report)
    with_all_rows(page)
    assert page.find_element(By.TAG_NAME, "h1").text == name
    assert name in rows(page)
    assert not page.find_elements(By.TAG_NAME, "img")
