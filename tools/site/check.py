"""Looks at every page of a built site in headless Chromium, as wide as a telephone and as a desk.

    python tools/site/check.py [FOLDER]      site/ by default; tools/check_site finds Chromium first

A fault is a line, and the exit status 1: a picture that is missing, a link to a page or an anchor
that is not there, an error in the console, a request to another host, a formula that was not
understood, a page that is wider than the window, a search that finds nothing, a page without what
a link to it shows elsewhere.
"""

import collections
import functools
import http.server
import json
import pathlib
import shutil
import sys
import threading
from urllib.parse import unquote, urldefrag, urlsplit

from playwright.sync_api import sync_playwright

WIDTHS = (390, 1280)
ARGUMENTS = [
    *("--disable-background-networking", "--disable-component-update", "--disable-gpu"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
PROBE = """() => ({
  anchors: [...document.querySelectorAll("[id], a[name]")].map((e) => e.id || e.name),
  links: [...document.querySelectorAll("a[href]")].map((e) => e.href),
  pictures: [...document.images].filter((e) => !e.naturalWidth).map((e) => e.src),
  formulas: [...document.querySelectorAll("math")].map((e) => e.textContent)
    .filter((text) => /[\\\\&]/.test(text)),
  cards: ["title", "description", "image"].filter(
    (name) => !document.querySelector(`meta[property="og:${name}"]:not([content=""])`)),
  shown: [...document.querySelectorAll('meta[property="og:image"]')]
    .map((e) => new URL(e.content, document.baseURI).href),
  wider: document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth,
})"""
LOAD_ALL = """() => Promise.all([...document.images].map((e) => {
  e.loading = "eager";
  return e.complete || new Promise((done) => { e.onload = e.onerror = done; });
}))"""
FOUND = ".md-search-result__item"
WITHOUT_CARD = "404.html"
INDEX = "search/search_index.json"


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *args):
        """Says nothing: the browser left a page before it had all of it."""


def check(folder):
    """Returns how many pages there are, and the faults, each a line."""
    server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    pages = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    index = folder / INDEX
    anchors, links, faults = {}, collections.defaultdict(set), []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )
        for width in WIDTHS:
            tab = browser.new_page(viewport={"width": width, "height": 900})
            said = watch(tab, address)
            if index.exists():
                tab.route(f"**/{INDEX}", functools.partial(answer, index))
            for page in pages:
                tab.goto(address + page)
                tab.evaluate(LOAD_ALL)
                seen = tab.evaluate(PROBE)
                said += [f"no picture {source}" for source in seen["pictures"]]
                said += [f"not understood: {text}" for text in seen["formulas"]]
                if page != WITHOUT_CARD:
                    said += [f"no og:{name}" for name in seen["cards"]]
                if seen["wider"] > 0:
                    said.append(f"{seen['wider']} pixels too wide")
                faults += [f"{page}, {width} pixels wide: {text}" for text in said]
                said.clear()
                anchors[page] = set(seen["anchors"])
                links[page].update(seen["links"], seen["shown"])
            if index.exists():
                tab.unroute(f"**/{INDEX}")
                tab.goto(f"{address}index.html?q=exponential")
                try:
                    tab.wait_for_selector(FOUND, state="attached", timeout=10_000)
                except Exception:
                    faults.append(f"index.html, {width} pixels wide: the search finds nothing")
            tab.close()
        browser.close()
    server.shutdown()
    for page, found in links.items():
        faults += [
            f"{page}: no {link}"
            for link in sorted(found)
            if is_dead(link, address, folder, anchors)
        ]
    return len(pages), [fault.replace(address, "/") for fault in faults]


def answer(index, route):
    """An index without pages: to load all of it takes longer than the rest of a page."""
    empty = {**json.loads(index.read_text()), "docs": []}
    route.fulfill(body=json.dumps(empty))


def watch(tab, address):
    """A list that grows by what goes wrong while pages load."""
    said = []

    def ask(request):
        if not request.url.startswith((address, "data:", "blob:")):
            said.append(f"asks for {request.url}")

    def write(message):
        if message.type == "error":
            said.append(message.text)

    tab.on("request", ask)
    tab.on("console", write)
    tab.on("pageerror", lambda error: said.append(str(error)))
    return said


def is_dead(link, address, folder, anchors):
    """Whether a link leads to nothing; those out of the site are not followed."""
    if not link.startswith(address):
        return False
    url, fragment = urldefrag(link)
    target = unquote(urlsplit(url).path).removeprefix("/") or "index.html"
    if not (folder / target).is_file():
        return True
    return bool(fragment) and target in anchors and unquote(fragment) not in anchors[target]


if __name__ == "__main__":
    count, faults = check(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "site").resolve())
    print("\n".join([*faults, f"{count} pages, {len(WIDTHS)} widths, {len(faults)} faults"]))
    sys.exit(bool(faults) or not count)
