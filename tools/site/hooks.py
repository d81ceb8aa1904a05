"""What mkdocs does here beside its plugins: formulas, and pages that lie outside of docs/."""

import pathlib
import posixpath
import re

from inline_code import InlineCode
from mathml import MathML, block
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[2]
# Files of the repository that are pages of the site.
OUTSIDE = {"benchmarks/README.md": "benchmarks.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(\]\()([^)#:\s]+)([#)])")


def on_config(config):
    config.markdown_extensions += [MathML(), InlineCode()]
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences["custom_fences"] = [{"name": "math", "class": "formula", "format": block}]


def on_files(files, config):
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))


def on_page_markdown(markdown, page, config, files):
    """Links to files outside of docs/ lead to their pages, and links of these pages into docs/."""
    inside = {page: source for source, page in OUTSIDE.items()}
    here = inside.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def move(match):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[2]))
        moved = OUTSIDE.get(target, target.removeprefix("docs/"))
        if moved == target:
            return match[0]
        start = posixpath.dirname(page.file.src_uri) or "."
        return match[1] + posixpath.relpath(moved, start) + match[3]

    return LINK.sub(move, markdown)
