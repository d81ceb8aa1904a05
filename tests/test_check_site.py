"""`tools/site/check.py` sees what can be wrong with a site; run by tools/check_site."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGE = """<!doctype html><html><head><link rel="icon" href="data:,"><meta property="og:title"
content="A"><meta property="og:description" content="B"><meta property="og:image" content="c.png">
</head><body>{}</body></html>"""
FAULTS = {
    '<img src="missing.png" loading="lazy">': "no picture /missing.png",
    '<a href="missing.html">there</a>': "no /missing.html",
    '<a href="whole.html#missing">there</a>': "no /whole.html#missing",
    '<a href="#missing">there</a>': "no /broken.html#missing",
    "<script>console.error('a fault')</script>": "a fault",
    "<script>missing()</script>": "missing is not defined",
    '<script src="https://example.com/a.js"></script>': "asks for https://example.com/a.js",
    '<link rel="stylesheet" href="missing.css">': "404",
    "<math><mi>\\missing</mi></math>": "not understood: \\missing",
    '<meta property="og:image" content="lost.png">': "no /lost.png",
    '<p style="width: 500px">wide</p>': "broken.html, 390 pixels wide: 1",
}


def look(folder, broken):
    whole = '<h1 id="here">Whole</h1><a href="broken.html">on</a> <a href="#here">up</a>'
    (folder / "whole.html").write_text(PAGE.format(whole))
    (folder / "c.png").touch()
    (folder / "broken.html").write_text(PAGE.format(broken))
    command = [sys.executable, ROOT / "tools/site/check.py", folder]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.browser
def test_every_kind_of_fault_is_seen(tmp_path):
    done = look(tmp_path, "".join(FAULTS))
    assert done.returncode == 1
    assert [kind for kind in FAULTS.values() if kind not in done.stdout] == []
    assert "whole.html, " not in done.stdout


@pytest.mark.browser
def test_a_page_without_a_card_is_seen(tmp_path):
    (tmp_path / "bare.html").write_text(PAGE.replace("og:description", "").format(""))
    assert "bare.html, 390 pixels wide: no og:description\n" in look(tmp_path, "").stdout


@pytest.mark.browser
def test_a_site_without_faults_passes(tmp_path):
    done = look(tmp_path, '<p style="max-width: 100%">Here.</p>')
    assert (done.returncode, done.stdout) == (0, "2 pages, 2 widths, 0 faults\n")
