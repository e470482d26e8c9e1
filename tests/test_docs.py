"""The documentation keeps up with the code."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import mailbe
from mailbe.configuration import DEFAULT_ENDPOINTS
from mailbe.limits import Limits
from mailbe.tap import Options

ROOT = Path(mailbe.__file__).parents[1]


class Documentation(SynchronousTestCase):
    def test_every_rfc_that_the_code_names_has_its_row(self) -> None:
        named = {rfc for path in ROOT.glob("mailbe/**/*.py") for rfc in re.findall(r"RFC \d+", path.read_text())}
        rows = set(re.findall(r"^\| (RFC \d+) ", (ROOT / "docs" / "rfcs.md").read_text(), re.MULTILINE))
        self.assertEqual(named - rows, set())

    def test_the_readme_has_the_ports_and_the_options(self) -> None:
        text = (ROOT / "README.md").read_text()
        for endpoints in DEFAULT_ENDPOINTS.values():
            for endpoint in endpoints:
                self.assertIn(endpoint.split(":")[1], text)
        self.assertIn(str(Limits().size), text)
        options = {f"--{name}" for name in Options().longOpt for name in [name.rstrip("=")]}
        for option in options - {"--help", "--version"}:
            self.assertIn(f"`{option}", text)

    def test_every_link_leads_somewhere(self) -> None:
        for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "maildata" / "README.md"]:
            for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
                self.assertTrue((page.parent / link).exists(), f"{page.name}: {link}")
