"""The documentation as a site: it builds, no link is broken, and it needs no network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import graphflops
import graphflops.analysis.rates

ROOT = Path(__file__).parents[1]
REFERENCE = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/api").glob("*.md"))


@pytest.mark.parametrize("name", [*graphflops.__all__, *(f"analysis.rates.{n}" for n in graphflops.rates.__all__)])
def test_every_public_name_is_in_the_api_reference(name: str) -> None:
    assert f"::: graphflops.{name}\n" in REFERENCE + "\n"


class Page(HTMLParser):
    """The ids, links and loaded files of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := attributes.get(name))}
        if tag == "a" and (target := attributes.get("href")):
            self.links.append(target)
        loads = attributes.get("src") if tag in ("script", "img", "iframe") else None
        loads = loads or (attributes.get("href") if tag == "link" else None)
        if loads:
            self.loaded.append(loads)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return {file: Page(file) for file in folder.rglob("*.html") if file.name != "404.html"}


@pytest.mark.slow
class TestTheBuiltSite:
    def test_every_link_leads_to_a_page_and_a_heading(self, site: dict[Path, Page]) -> None:
        assert len(site) > 60
        broken = [
            f"{page.file.name}: {link}" for page in site.values() for link in page.links if not leads(link, page, site)
        ]
        assert not broken

    def test_nothing_is_loaded_from_another_host(self, site: dict[Path, Page]) -> None:
        assert not [url for page in site.values() for url in page.loaded if re.match(r"(https?:)?//", url)]

    def test_formulas_are_mathml(self, site: dict[Path, Page]) -> None:
        (linear,) = (file for file in site if file.match("rules/linear.html"))
        text = linear.read_text(encoding="utf-8")
        assert text.count("<math") > 10
        assert "begin{array}" not in text

    def test_the_search_knows_the_api(self, site: dict[Path, Page]) -> None:
        index = next(iter(site)).parent
        while not (index / "search").exists():
            index = index.parent
        assert "api/analysis.html#graphflops.analyze" in (index / "search/search_index.js").read_text(encoding="utf-8")


def leads(link: str, page: Page, site: dict[Path, Page]) -> bool:
    """Whether a link leads somewhere; one to another host is not followed."""
    if re.match(r"\w+:", link):
        return True
    target, _, anchor = unquote(link).partition("#")
    file = (page.file.parent / target).resolve() if target else page.file
    if not file.exists():
        return False
    return not anchor or file not in site or anchor in site[file].ids or anchor.startswith("__")
