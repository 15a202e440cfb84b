"""What axe-core objects to on a page in a real browser."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from tests.browser import Tab

_RUN = """axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}).then(found =>
    JSON.stringify(found.violations.map(rule =>
        [rule.id, rule.help, rule.nodes.map(node => node.html.slice(0, 200))])))"""


def violations(tab: Tab) -> list[str]:
    """`rule: what is wanted: the elements` for each rule of WCAG 2.1 AA and good practice that the page breaks."""
    pytest.importorskip("axe_core_python", reason="axe-core is not installed: pip install axe-core-python")
    tab.run((files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = json.loads(tab.run(_RUN))
    return [f"{rule}: {wanted}: {nodes[:3]} ({len(nodes)})" for rule, wanted, nodes in found]
