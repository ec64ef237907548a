"""What every HTML page of ours shares: templates that escape what they are given, figures within, the file.

A page is one file that loads nothing: style, figures and script are inside it, and its Content-Security-Policy forbids
the rest. What a run holds (names, samples, notes, messages) is foreign text: autoescape is always on, and only a script
that is a file of the package runs, since the policy knows its digest.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import LogLocator, MaxNLocator

from charrnn.plots.figures import BLUE, GREY, named_legend, wrapped
from charrnn.runs.output import refuse_output, write_output

SUFFIXES = (".html", ".htm")
NARROW = 4.2  # inches: at the width of a phone its letters are as large as those of the page
LEGEND_LINE = 0.2  # inches
COVERED = 2  # lines of a legend that a narrow panel has room for beside its curves
NUMBERS = 4  # along the bottom of a narrow figure, at the most: those of a million steps beside each other
SECOND_AXIS = 25  # pixels that the numbers of an axis at the top take
# Colours of a figure that follow the page into the dark; the others are seen on either background.
FOLLOWING = {
    "#000000": "currentColor",
    "#ffffff": "var(--page)",
    "#b0b0b0": "var(--rule)",  # grid
    "#cccccc": "var(--rule)",  # frame of a legend
    BLUE: "var(--blue)",
    GREY: "var(--grey)",
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@cache
def _environment() -> Environment:
    loader = PackageLoader("charrnn.plots", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(template: str, *, script: str | None = None, **values: Any) -> str:
    """A page from a template in ``templates`` that extends ``base.html.j2``; every value is escaped.

    ``script`` is the name of a file beside the template: the only one that the page may run.
    """
    source = None if script is None else _source(script)
    allowed = "'none'" if source is None else f"'sha256-{_digest(source)}'"
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )
    code = None if source is None else Markup(source)
    return _environment().get_template(template).render(policy=policy, script=code, **values)


def _source(name: str) -> str:
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]


def _digest(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def inline_figure(figure: Figure, identifier: str, name: str, description: str) -> Markup:
    """A figure as HTML: an SVG that follows light and dark, once for a wide and once for a narrow page.

    ``identifier`` is unique in the page; ``name`` says in a few words what is drawn, ``description`` what it shows, in
    numbers: it stands below the figure, for all readers. The figure's size is changed.
    """
    wide = _svg(figure, f"{identifier}-wide", name, identifier)
    _narrow(figure)
    narrow = _svg(figure, f"{identifier}-narrow", name, identifier)
    return Markup(
        '<figure>\n<div class="wide">{}</div>\n<div class="narrow">{}</div>\n'
        '<figcaption id="{}-caption">{}</figcaption>\n</figure>'
    ).format(wide, narrow, identifier, description)


def _narrow(figure: Figure) -> None:
    """Fit a figure to a phone: legends in one column, those that would cover curves above them, fewer numbers."""
    height = figure.get_figheight() + LEGEND_LINE * sum(len(legend.get_texts()) for legend in figure.legends)
    for legend in list(figure.legends):
        _narrow_legend(figure, legend)
    for axis in figure.axes:
        inside = axis.get_legend()
        if inside is not None and len(inside.get_texts()) > COVERED:
            above = SECOND_AXIS if axis.child_axes else 0.0
            inside.set_loc("lower left")
            inside.set_bbox_to_anchor((0, 1 + above / axis.get_window_extent().height))
            height += LEGEND_LINE * len(inside.get_texts())
        is_log = axis.get_xscale() == "log"
        axis.xaxis.set_major_locator(LogLocator() if is_log else MaxNLocator(NUMBERS - 1, integer=True))
    figure.set_size_inches(NARROW, height)


def _narrow_legend(figure: Figure, legend: Legend) -> None:
    """The same legend in one column at the top: how many columns it has is settled when it is made."""
    size = float(legend.get_texts()[0].get_fontsize())
    labels = [wrapped(" ".join(text.get_text().split()), NARROW - 1, size) for text in legend.get_texts()]
    handles = [handle for handle in legend.legend_handles if handle is not None]
    legend.remove()
    named_legend(figure, handles, labels, loc="outside upper center", ncols=1, fontsize=size)


def _svg(figure: Figure, prefix: str, name: str, identifier: str) -> Markup:
    """The ``<svg>`` element of a figure, with ids of its own and the page's colours."""
    content = io.BytesIO()
    # Letters stay letters: they can be read aloud, searched and magnified, and take the page's font and colour.
    # "tight": the last number of an axis may reach over the end of the figure.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix, "savefig.pad_inches": 0.04}):
        figure.savefig(content, format="svg", transparent=True, bbox_inches="tight", metadata=_NO_METADATA)
    text = content.getvalue().decode()
    text = text[text.index("<svg ") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\sid="|url\(#|xlink:href="#)', lambda found: f"{found[0]}{prefix}-", text)
    text = re.sub("|".join(FOLLOWING), lambda found: FOLLOWING[found[0]], text)
    box = re.search(r'viewBox="([^"]*)"', text)
    assert box is not None
    opening = Markup('<svg viewBox="{}" role="img" aria-label="{}" aria-describedby="{}-caption">')
    return opening.format(box[1], name, identifier) + Markup(text[text.index(">") + 1 :])


def refuse_page(path: Path) -> None:
    """Find out before the work whether a page can be written under this name.

    Raises:
        UsageError: it is no name of a page, or there is no such folder.
    """
    refuse_output(path, "a page", SUFFIXES)


def save_page(html: str, path: Path) -> None:
    """Write a finished page, whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    write_output(path, html.encode("utf-8", "backslashreplace"))
