"""The pages in a real browser: nothing on the console, nothing wider than the window."""

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console

from rctaf_jax.experiments.pages.sweep_page import write_report
from rctaf_jax.experiments.paper.registry import experiments_named
from rctaf_jax.experiments.paper.reproduce import reproduce
from rctaf_jax.experiments.paper.scales import SCALES
from rctaf_jax.experiments.results.studies import open_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
WIDTHS = (400, 1400)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


def check(browser: Browser, path: Path) -> None:
    for width in WIDTHS:
        page, told = browser.new_page(viewport={"width": width, "height": 900}), []
        page.on("console", lambda message: told.append(message.text))  # noqa: B023
        page.on("pageerror", lambda error: told.append(str(error)))  # noqa: B023
        page.goto(path.resolve().as_uri())
        assert told == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("svg").count() > 0
        assert page.locator("svg").first.bounding_box()["width"] > 0.5 * min(width, 600)
        page.close()


def test_a_sweeps_report(
    browser: Browser, make_folder: Callable[..., Path], sweep_rows: list[dict[str, Any]]
) -> None:
    path = write_report(open_study(make_folder(sweep_rows)))
    check(browser, path)
    page = browser.new_page(viewport={"width": 400, "height": 900})
    page.goto(path.resolve().as_uri())
    verdicts = page.locator("details.claim > summary .verdict")
    words = set(verdicts.all_inner_texts())
    assert words <= {"supported", "not supported", "not enough data"}
    assert verdicts.count() > 8


def test_a_reproduction(browser: Browser, tmp_path: Path) -> None:
    path = reproduce(
        experiments_named(["figure-1", "figure-2"]),
        SCALES["digits"],
        tmp_path / "results",
        "rctaf reproduce figure-1 figure-2",
        Console(file=io.StringIO()),
        is_sure=lambda sentence: True,
    ).path
    check(browser, path)
