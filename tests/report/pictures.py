"""Draw the pictures of the documentation: ``python tests/report/pictures.py docs/pictures``.

The pages are photographed in Chromium; without it only the pictures that need no browser are drawn.
"""

import shutil
import sys
import tempfile
from base64 import b64decode
from pathlib import Path

import torch
from html_models import Llama, llama_405b
from selenium import webdriver

import graphflops
from graphflops import multiples

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def llama(B: int, N: int, D: int, L: int) -> tuple[Llama, tuple[torch.Tensor, ...]]:
    """A small language model of some sizes."""
    return Llama(L, D, 4, 2, 4 * D, 1000), (torch.empty(B, N, dtype=torch.int64),)


def main(folder: Path) -> None:
    """Write the pictures: the icicle alone, and in Chromium the page in both colours and the curves of a law."""
    folder.mkdir(parents=True, exist_ok=True)
    model, tokens = llama_405b()
    report = graphflops.analyze(model, (tokens,), optimizer="adamw")
    report.to_picture(folder / "icicle.svg")
    if browser() and shutil.which("chromedriver"):
        photograph(report, folder)
    else:
        print(
            f"no Chromium with chromedriver: {folder}/page-*.webp are not drawn anew, those of the repository are used"
        )


def browser() -> str | None:
    """The path of Chromium or Chrome, if it is installed."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def photograph(report: graphflops.Report, folder: Path) -> None:
    """Write pictures of the report's page."""
    sizes = {"B": 8, "N": 512, "D": multiples(8, base=256), "L": 4}
    law = graphflops.law(llama, sizes, attention="math")
    options = webdriver.ChromeOptions()
    options.binary_location = browser() or "chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        page = report.to_html(
            Path(profile) / "report.html", sections=[law.section(N=[128, 512, 2048], D=[64, 256, 1024])]
        )
        try:
            for name, width, height, scheme, script in (
                ("page-light", 1280, 800, "light", ""),
                ("page-dark", 1280, 800, "dark", "select(model.children[1].children[0].children[0].children[0])"),
                ("page-law", 1280, 760, "light", "document.querySelectorAll('section')[1].scrollIntoView()"),
            ):
                size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
                driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                driver.get(page.as_uri())
                driver.execute_script(script)
                driver.execute_script("document.getAnimations().forEach(animation => animation.finish())")
                shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "webp", "quality": 80})
                (folder / f"{name}.webp").write_bytes(b64decode(shot["data"]))
        finally:
            driver.quit()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
