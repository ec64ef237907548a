"""The page of ``charrnn inspect`` in a browser: quiet, self-contained, readable on a phone and without a script."""

from __future__ import annotations

from pathlib import Path

import pytest

from charrnn.plots.inspect import InspectionPage, Ranked, Surprise, Unit, draw_inspection
from tests.browser import PHONE, Visit, visit

EVIL = "</script><img src=x onerror=alert(1)>\n"
TEXT = "First line\twith “quotes” and a very-long-word" + "y" * 60 + "\n\n" + EVIL


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Two units: the first one goes from -1 to 1, the second one, of scale 3, is always at its end."""
    count = len(TEXT)
    path = tmp_path / "page.html"
    rising = [2 * place / (count - 1) - 1 for place in range(count)]
    content = InspectionPage(
        title=f"What {EVIL} expects",
        facts=["Facts."],
        shown="All is shown.",
        characters=TEXT,
        bits=[float("nan")] + [place % 10 + 0.5 for place in range(1, count)],
        expected=["", *["e 50% · ↵ 20%"] * (count - 3), "a very long name " * 9, "the end"],
        units=[
            Unit("brackets: unit 1:1 +0.90", "Unit 1:1: brackets", rising, 1.0),
            Unit(EVIL, EVIL, [1.0] * count, 3.0),
        ],
        ranking=[Ranked("brackets", "1:1", "+0.91", "+0.90", "0.10", "0.990", True)] * 3,
        notes=[EVIL],
        surprises=[Surprise(12.0, "so much before it ", "<", " and after", EVIL)],
    )
    path.write_text(draw_inspection(content), encoding="utf-8")
    return path


def test_quiet_and_alone(page: Path) -> None:
    with visit(page) as opened:
        opened.page.select_option("#unit", index=1)
        opened.page.locator("#bits i").nth(3).hover()
        assert opened.messages == []
        assert opened.requests == [page.absolute().as_uri()]
        assert opened.page.locator("img").count() == 0


@pytest.mark.parametrize("javascript", [True, False])
def test_the_text_is_whole(page: Path, javascript: bool) -> None:
    with visit(page, javascript=javascript) as opened:
        for block in ("#bits", "#states"):
            assert opened.page.locator(block).inner_text().rstrip("\n") == TEXT.rstrip("\n")
            assert opened.page.locator(f"{block} i, {block} b").count() == len(TEXT)
            assert opened.page.locator(f"{block} b").count() == TEXT.count("\n")


def colours(opened: Visit, block: str) -> list[str]:
    script = f"[...document.querySelectorAll('{block} i, {block} b')].map(e => getComputedStyle(e).backgroundColor)"
    found: list[str] = opened.page.evaluate(script)
    return found


def test_another_unit_has_other_colours(page: Path) -> None:
    with visit(page) as opened:
        before = colours(opened, "#states")
        assert before[0] == "rgb(0, 114, 178)"
        assert before[-1] == "rgb(213, 94, 0)"
        assert len(set(before)) == 21
        opened.page.select_option("#unit", index=1)
        assert set(colours(opened, "#states")) == {"rgb(213, 94, 0)"}
        assert opened.page.locator("#chosen").inner_text() == EVIL.strip()
        assert opened.page.locator("#highest").inner_text() == "+3"
        opened.page.locator("#states").focus()
        opened.page.keyboard.press("ArrowUp")
        assert colours(opened, "#states") == before
        assert opened.page.locator("#lowest").inner_text() == "-1"


def test_without_a_script_the_best_unit_is_shown(page: Path) -> None:
    with visit(page, javascript=False) as opened:
        assert opened.page.locator("#states .u0").count() > 0
        assert opened.page.locator("#states .uk").count() > 0
        assert not opened.page.locator("#unit").is_visible()
        assert opened.page.locator(".readout >> visible=true").count() == 0
        assert opened.page.locator("#chosen").inner_text() == "Unit 1:1: brackets"


def test_a_character_in_words(page: Path) -> None:
    with visit(page) as opened:
        readout = opened.page.locator(".readout").first
        opened.page.locator("#bits i").nth(3).hover()
        assert readout.inner_text() == "“s”: 3.50 bits. Expected: e 50% · ↵ 20%"
        opened.page.locator("#bits").focus()
        opened.page.keyboard.press("ArrowRight")
        assert readout.inner_text().startswith("“t”: 4.50 bits")
        for _ in range(6):
            opened.page.keyboard.press("ArrowLeft")
        assert readout.inner_text() == "“F”: nothing before it to predict it from"
        second = opened.page.locator(".readout").nth(1)
        opened.page.locator("#states i").nth(5).hover()
        assert second.inner_text() == "space: state about -0.9"
        opened.page.select_option("#unit", index=1)
        assert second.inner_text() == "space: state about +3"


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_scrolls_down_only(page: Path, dark: bool) -> None:
    with visit(page, width=PHONE, dark=dark) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= PHONE
        assert opened.page.evaluate("document.querySelector('#bits').scrollWidth") <= PHONE
        opened.page.locator("#bits i").nth(8).hover()
        before = opened.page.evaluate("document.querySelector('#bits').offsetTop")
        opened.page.locator("#bits i").last.hover()  # needs several lines to be described
        assert opened.page.locator(".readout").first.inner_text().endswith("name")
        assert opened.page.evaluate("document.querySelector('#bits').offsetTop") == before


def test_dark_is_dark(page: Path) -> None:
    with visit(page, dark=True) as opened:
        assert colours(opened, "#states")[0] == "rgb(86, 180, 233)"
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
