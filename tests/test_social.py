"""What a link to a page of the site shows elsewhere; tools/check_site looks at the pages' own."""

import pathlib
import runpy
from types import SimpleNamespace

import pytest

TOOL = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "tools/site/social.py"))


def test_a_description_is_the_first_paragraph():
    describe = TOOL["describe"]
    content = "<p>Short.</p>\n<p>What <code>a</code> page\nsays &amp; shows.</p>"
    assert describe(content) == "What a page says &amp; shows."
    assert describe("<h1>No</h1>") is None
    whole = "A paragraph of several sentences, as Doe et al. (2020) write."
    assert describe(f"<p>{whole} {'And so on ' * 20}</p>") == whole


@pytest.mark.parametrize(
    "site, url, image",
    [
        (None, "a.html", "images/social_card.png"),
        (None, "reference/a.html", "../images/social_card.png"),
        ("https://a.org/b/", "reference/a.html", "https://a.org/b/images/social_card.png"),
    ],
)
def test_a_page_has_its_title_and_the_picture(site, url, image):
    page = SimpleNamespace(title='A "page"', url=url, meta={}, canonical_url=None)
    config = SimpleNamespace(site_name="name", site_url=site, site_description="All.")
    output = TOOL["add"]("<head></head></head>", page, config)
    assert '<meta property="og:title" content="A &quot;page&quot; - name">' in output
    assert '<meta property="og:description" content="All.">' in output
    assert f'<meta property="og:image" content="{image}">' in output
    assert "og:url" not in output and output.endswith("</head></head>")
