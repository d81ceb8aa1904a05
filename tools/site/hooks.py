"""What mkdocs does here beside its plugins.

Formulas, links of public names to the reference, pages that are made of the source, those that lie
outside of docs/, and what a link to a page shows elsewhere.
"""

import pathlib
import posixpath
import re

import gallery
import programs
import reference
import social
from mathml import MathML, block
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[2]
# Files of the repository that are pages of the site.
OUTSIDE = {"benchmarks/README.md": "benchmarks.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(\]\()([^)#:\s]+)([#)])")
# What a line of a page stands for.
MADE = {
    "<!-- contents -->": lambda markdown: reference.contents(markdown, ROOT),
    "<!-- presets -->": lambda markdown: gallery.describe(ROOT),
    "<!-- programs -->": lambda markdown: programs.describe(ROOT / "trainers"),
}
OF_DOCSTRINGS = ("Example", "Examples", "References")  # Too many to list.


def on_config(config):
    names = reference.entries(ROOT / "docs/reference")
    config.markdown_extensions += [MathML(), reference.Names(names)]
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences["custom_fences"] = [{"name": "math", "class": "formula", "format": block}]


def on_files(files, config):
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for path, content in gallery.pictures(ROOT):
        files.append(File.generated(config, path, content=content))


def on_page_markdown(markdown, page, config, files):
    lines = markdown.split("\n")
    lines = [MADE[line](markdown) if line in MADE else line for line in lines]
    return move_links("\n".join(lines), page.file.src_uri)


def move_links(markdown, page):
    """Links to files outside of docs/ lead to their pages, and links of these pages into docs/."""
    here = {made: source for source, made in OUTSIDE.items()}.get(page, f"docs/{page}")

    def move(match):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[2]))
        moved = OUTSIDE.get(target, target.removeprefix("docs/"))
        moved = moved.replace("zoo/weights/", f"{gallery.FOLDER}/")
        if moved == target:
            return match[0]
        return match[1] + posixpath.relpath(moved, posixpath.dirname(page) or ".") + match[3]

    return LINK.sub(move, markdown)


def on_page_content(html, page, config, files):
    def prune(items):
        items[:] = [item for item in items if item.title not in OF_DOCSTRINGS]
        for item in items:
            prune(item.children)

    if page.file.src_uri.startswith("reference/"):
        prune(page.toc.items)
    if description := social.describe(html):
        page.meta.setdefault("description", description)


def on_post_page(output, page, config):
    return social.add(output, page, config)
