"""The shipped bundles are those that the checksums name, with licences, and only --html reads them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from helpers.paths import ROOT

from vsp.reporting.page.document import BUNDLES, web_file
from vsp.reporting.page.markup import own_script

_VENDORED = ROOT / "vsp" / "web" / "vendor"


@pytest.mark.parametrize("folder", [_VENDORED, Path(__file__).parent / "axe"])
def test_the_files_have_their_checksums(folder):
    listed = dict(
        reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines()
    )
    files = {path.name for path in folder.iterdir()} - {"SHA256SUMS", "make.sh"}
    assert files == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_every_bundle_has_its_licence_and_its_version_in_the_script_that_makes_it():
    script = (_VENDORED / "make.sh").read_text()
    for name in BUNDLES:
        package = name.removesuffix(".js")
        assert "Redistribution" in (_VENDORED / f"{package}.LICENSE").read_text()
        assert re.search(
            rf"^{package} \d+\.\d+\.\d+ [A-Za-z0-9+/]{{86}}== \S+ {name}$", script, re.M
        )


@pytest.mark.parametrize("name", [*(f"vendor/{one}" for one in BUNDLES), "page.js"])
def test_a_script_can_stand_in_a_page_and_makes_no_code_from_text_of_its_own(name):
    body = web_file(name)
    assert own_script(body) and "sourceMappingURL" not in body
