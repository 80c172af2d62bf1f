"""A real browser on the Prefect UI, and the pictures that the documentation shows of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
UNDRAWN = [
    *("--disable-gpu", "--disable-gpu-compositing"),
    *("--disable-gpu-rasterization", "--disable-software-rasterizer"),
]
DRAWN = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
"""What draws timelines where there is no graphics card, slowly: for pictures alone."""

PATIENCE_MILLISECONDS = 60_000
LINGER_MILLISECONDS = 60_000
DRAWN_MILLISECONDS = 5_000
WIDE: ViewportSize = {"width": 1280, "height": 860}
LONG: ViewportSize = {"width": 1280, "height": 1380}
NARROW: ViewportSize = {"width": 600, "height": 860}
STAND_STILL = """
    document.addEventListener("DOMContentLoaded", () => {
        const style = document.createElement("style");
        style.textContent = "* { animation: none !important; transition: none !important }";
        document.head.append(style);
    });
"""
"""Without a graphics card, what moves while a test waits takes a processor for itself."""

PICTURES_VARIABLE = "PYTEST_KINETIC_PICTURES"
"""Names a directory to keep pictures in: docs/images when the documentation's are renewed."""


@contextmanager
def open_page() -> Iterator[Page]:
    """Open an empty page of a headless Chromium."""
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    with sync_playwright() as playwright:
        drawing = DRAWN if os.environ.get(PICTURES_VARIABLE) else UNDRAWN
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *drawing])
        page = browser.new_page(viewport=WIDE, color_scheme="light")
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        page.add_init_script(STAND_STILL)
        yield page
        browser.close()


def keep_picture(page: Page, name: str) -> None:
    """Take a picture of a page, kept where somebody asked for it."""
    directory = os.environ.get(PICTURES_VARIABLE)
    if directory:
        page.wait_for_timeout(DRAWN_MILLISECONDS)
        page.screenshot(path=Path(directory) / f"{name}.png", animations="disabled")


def linger(page: Page) -> None:
    """Wait until there is something to be seen in pictures, where somebody asked for them."""
    if os.environ.get(PICTURES_VARIABLE):
        page.wait_for_timeout(LINGER_MILLISECONDS)


@contextmanager
def lengthened(page: Page) -> Iterator[None]:
    """Make a page as long as what it shows of a run, in this block."""
    page.set_viewport_size(LONG)
    yield
    page.set_viewport_size(WIDE)


@contextmanager
def narrowed(page: Page) -> Iterator[None]:
    """Make a page as narrow as a phone, or as one that is zoomed in, in this block."""
    page.set_viewport_size(NARROW)
    yield
    page.set_viewport_size(WIDE)


def open_tab(page: Page, name: str) -> None:
    """Open one of the tabs of a run's page."""
    page.get_by_role("tablist").get_by_text(name, exact=True).click()
