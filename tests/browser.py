"""Opens a page of ours in a real Chromium without a network; skips the test where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE, PHONE = 1280, 390  # CSS pixels


@dataclass
class Visit:
    """A page that is open. ``messages``: everything on the console, and errors of scripts; ``requests``: every address
    that was asked for, the page itself included; ``page`` is playwright's, for queries."""

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def screenshot(self, path: Path | None = None) -> bytes:
        """The whole page as PNG, also into a file if one is named."""
        image: bytes = self.page.screenshot(full_page=True, path=path)
        return image


@contextmanager
def visit(
    path: Path, *, width: int = WIDE, height: int = 900, dark: bool = False, javascript: bool = True
) -> Iterator[Visit]:
    """The page in a file, loaded; ``width`` and ``height`` of the window are in CSS pixels."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser on PATH: none of {', '.join(NAMES)}")
    # Chromium refuses its sandbox to root, as which containers often run.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=program, args=arguments) as browser,
    ):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            java_script_enabled=javascript,
            offline=True,
        )
        opened = Visit(context.new_page())
        opened.page.on("console", lambda message: opened.messages.append(f"{message.type}: {message.text}"))
        opened.page.on("pageerror", lambda error: opened.messages.append(f"error: {error}"))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(path.absolute().as_uri())
        yield opened
        context.close()
