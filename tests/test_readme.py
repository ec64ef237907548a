"""The README says what is there: every setting, every module, every shipped config, every script it calls."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import charrnn

ROOT = Path(charrnn.__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_settings_is_the_schema() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts" / "settings-table"], capture_output=True, text=True, check=True
    ).stdout
    assert "`training.lr`" in printed
    assert printed in README


def test_every_module_is_on_the_map() -> None:
    code_map = README.split("## The code")[1]
    rooms = [path for path in (ROOT / "charrnn").rglob("*.py") if path.name != "__init__.py"]
    missing = [p.name for p in rooms if p.parent.name != "cli" and not re.search(rf"\b{p.name}\b", code_map)]
    assert not missing


def test_every_shipped_config_is_listed() -> None:
    missing = [path.name for path in (ROOT / "configs").glob("*.yaml") if f"`{path.name}`" not in README]
    assert not missing


def test_every_script_it_names_is_there() -> None:
    for name in set(re.findall(r"scripts/[\w./-]*\w", README)):
        assert (ROOT / name).exists(), name


def test_every_link_within_it_leads_to_a_heading() -> None:
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    linked = set(re.findall(r"\]\(#([\w-]+)\)", README))
    assert len(linked) > 5
    assert linked <= anchors
