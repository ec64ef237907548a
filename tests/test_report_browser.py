"""The page of ``charrnn report`` in a browser: quiet, self-contained, readable on a phone, light and dark."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from charrnn.plots.inspect import contrast
from charrnn.plots.report import draw_report
from charrnn.studies import report as studies_report
from charrnn.studies.doctor.finding import Finding
from charrnn.studies.report import report
from charrnn.text.places import Places
from tests.browser import PHONE, WIDE, Visit, visit
from tests.reports import EVIL, ROWS, run_folder
from tests.test_report import examination

READABLE = 4.5  # WCAG 2, level AA: https://www.w3.org/TR/WCAG22/#contrast-minimum
LONG = "a-very-long-word" * 20
UNFOLD = "document.querySelectorAll('details').forEach((one) => (one.open = true))"
# Every element with letters of its own, with the colours that it has in the end; what is not shown is left out.
COLOURS = """() => {
  const background = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "none";
  };
  document.querySelectorAll("details").forEach((one) => (one.open = true));
  return [...document.querySelectorAll("main *")]
    .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .filter((one) => one.getClientRects().length && one.nodeName !== "style")
    .map((one) => {
      const style = getComputedStyle(one);
      const letters = one.namespaceURI.endsWith("svg") ? style.fill : style.color;
      return [one.nodeName.toLowerCase(), letters, background(one)];
    });
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, one with problems, long words, foreign text, a sample that would be a script."""
    folder = tmp_path_factory.mktemp("page")
    finding = Finding("evil", True, "Too fast.", LONG, EVIL, "It overshoots.", LONG)
    rows = [row | {"step": round(22.7 * row["step"])} for row in ROWS]  # to 1,362: the number 1,400 is near the end
    rows[-1]["sample"] = f"{LONG}\n{EVIL}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(studies_report, "examine_folder", lambda *_: examination(finding))
        paths = [run_folder("cat", f"run.note={EVIL}", rows=rows), run_folder(LONG[:200], environment={"x": LONG})]
        made = report(paths, f"charrnn {LONG}", datetime(2026, 5, 4, tzinfo=UTC), Places(data=(), cache=folder))
        path = folder / "report.html"
        path.write_text(draw_report(made), encoding="utf-8")
    return path


def test_quiet_and_alone(page: Path) -> None:
    with visit(page) as opened:
        opened.page.evaluate(UNFOLD)
        opened.page.locator("a[href='#run-2']").first.click()
        assert opened.messages == []
        assert {request.partition("#")[0] for request in opened.requests} == {page.absolute().as_uri()}
        assert opened.page.locator("img, script").count() == 0
        assert EVIL in opened.page.locator("pre.sample").all_inner_texts()[3]


def test_it_scrolls_down_only(page: Path) -> None:
    with visit(page) as opened:
        opened.page.evaluate(UNFOLD)
        for width in (PHONE, 320, WIDE):
            opened.page.set_viewport_size({"width": width, "height": 800})
            assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
            wider = opened.page.locator("pre, .scroll:has(.pairs)").evaluate_all(
                "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
            )
            assert wider == []


def colours(opened: Visit) -> dict[tuple[str, str, str], float]:
    """Element, letters and background, as they come, with their contrast."""
    found = {tuple(one) for one in opened.page.evaluate(COLOURS)}
    return {(name, text, behind): contrast(_hex(text), _hex(behind)) for name, text, behind in found}


def _hex(colour: str) -> str:
    numbers = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour)
    assert numbers, colour
    return "#" + "".join(f"{int(one):02x}" for one in numbers.groups())


@pytest.mark.parametrize("dark", [False, True])
def test_all_letters_can_be_read(page: Path, dark: bool) -> None:
    with visit(page, dark=dark) as opened:
        found = colours(opened)
    assert {"p", "h1", "h2", "h3", "td", "dd", "dt", "pre", "summary", "figcaption", "text"} <= {
        one[0] for one in found
    }
    assert {one: ratio for one, ratio in found.items() if ratio < READABLE} == {}


def test_dark_is_another_page(page: Path) -> None:
    pictures, pages = [], []
    for dark in (False, True):
        with visit(page, dark=dark) as opened:
            pictures.append(opened.page.screenshot())
            pages.append(opened.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert pages == ["rgb(253, 253, 252)", "rgb(21, 24, 28)"]
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize(("width", "shown"), [(PHONE, "narrow"), (WIDE, "wide")])
def test_figures(page: Path, width: int, shown: str) -> None:
    """Each is there once, of the width of the page at most, has a name and its description, and all its letters lie
    within it, none over others."""
    with visit(page, width=width) as opened:
        opened.page.evaluate(UNFOLD)
        figures = opened.page.locator("figure").all()
        assert len(figures) == 7
        for figure in figures:
            drawn = figure.locator("svg[role=img] >> visible=true")
            assert drawn.count() == 1
            assert drawn.locator("xpath=..").get_attribute("class") == shown
            assert drawn.get_attribute("aria-label")
            described = str(drawn.get_attribute("aria-describedby"))
            assert opened.page.locator(f"#{described}").inner_text() == figure.locator("figcaption").inner_text() != ""
            outside = """(svg) => { const all = svg.getBoundingClientRect();
              return [...svg.querySelectorAll("text")].filter((one) => { const box = one.getBoundingClientRect();
                return box.left < all.left - 3 || box.right > all.right + 3; }).map((one) => one.textContent); }"""
            assert drawn.evaluate(outside) == []
            over = """(svg) => { const all = [...svg.querySelectorAll("text")].map((one) =>
                [one.textContent, one.getBoundingClientRect()]);
              return all.flatMap(([name, a], i) => all.slice(i + 1).filter(([_, b]) =>
                Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
                Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4).map(([other, _]) => [name, other])); }"""
            assert drawn.evaluate(over) == []


def test_headings_in_order(page: Path) -> None:
    with visit(page) as opened:
        levels = opened.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5')].map((one) => +one.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
