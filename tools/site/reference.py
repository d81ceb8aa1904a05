"""Public names: the list at the head of each page of the reference, and links to their entries."""

import functools
import re
from xml.etree import ElementTree

import griffe
from markdown import Extension
from markdown.treeprocessors import Treeprocessor
from markdown.util import AtomicString

ENTRY = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
# ConvExponential, zoo.create(...), bijectors.transforms.Affine, build_network
NAME = re.compile(r"([A-Za-z]\w*(?:\.[A-Za-z]\w*)*)(?:\(.*\))?")
AFTER_INLINE = 15  # That of what makes `code` is 20.
WHOLE = 24  # Characters that a column of a table on a telephone has room for.
PIECES = re.compile(r"(?<=[._/=])(?=\w)")
NEVER = {"a", "pre", "h1", "h2", "h3", "h4", "h5", "h6"}


def entries(folder):
    """The names that have an entry in a folder of pages."""
    return [
        name for page in sorted(folder.rglob("*.md")) for name in ENTRY.findall(page.read_text())
    ]


def contents(markdown, root):
    """A table of the entries of a page, with the first lines of their docstrings."""
    rows = []
    for name in ENTRY.findall(markdown):
        found = public_object(name, str(root))
        text = found.docstring.value.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        rows.append(f"| [`{name.split('.')[-1]}`][{name}] | {text} |")
    return "\n".join(["| name | what it is |", "| --- | --- |", *rows])


def public_object(name, root):
    package, *path = name.split(".")
    found = load(package, root)[".".join(path)]
    return found.final_target if found.is_alias else found


@functools.cache
def load(package, root):
    return griffe.load(package, search_paths=[root], allow_inspection=False)


def find(code, names):
    """The entry that a piece of code names, and where in it: `None` if none, or if several do."""
    match = NAME.fullmatch(code)
    if not match:
        return None
    name = match[1]
    plain = "." not in name and "_" not in name and name[0].islower()  # A word like any other.
    while name and not plain:
        found = [full for full in names if full == name or full.endswith(f".{name}")]
        if len(found) == 1:
            return found[0] + match[1].removeprefix(name)
        name = name.rpartition(".")[0]  # A method of it, perhaps.
        plain = "." not in name and not name[:1].isupper()
    return None


class Codes(Treeprocessor):
    """Code in lines of text: names of the library lead to their entries, flags stay whole."""

    def __init__(self, md, names):
        super().__init__(md)
        self.names = names

    def run(self, root):
        self.visit(root)

    def visit(self, parent):
        for index, child in enumerate(list(parent)):
            if child.tag == "code":
                self.edit(parent, index, child)
            elif child.tag not in NEVER:
                self.visit(child)

    def edit(self, parent, index, code):
        text = code.text = AtomicString((code.text or "").replace("\\|", "|"))  # Of tables.
        if " " not in text:
            keep_whole(code)
        name = find(text, self.names)
        if name:
            link = ElementTree.Element("autoref", {"identifier": name, "optional": ""})
            link.tail, code.tail = code.tail, None
            link.append(code)
            parent[index] = link


def keep_whole(code):
    """A word that is short is not broken, another one behind dots and the like alone."""
    if len(code.text) <= WHOLE:
        code.set("class", "whole")
        return
    code.text, *rest = map(AtomicString, PIECES.split(code.text))
    for piece in rest:
        ElementTree.SubElement(code, "wbr").tail = piece


class Names(Extension):
    def __init__(self, names):
        super().__init__()
        self.names = names

    def extendMarkdown(self, md):
        md.treeprocessors.register(Codes(md, self.names), "names", AFTER_INLINE)
