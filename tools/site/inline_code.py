"""Code in lines of text: names and flags stay whole."""

from markdown import Extension
from markdown.treeprocessors import Treeprocessor

AFTER_INLINE = 15  # That of what makes `code` is 20.
WHOLE = 32  # Characters that fit into a line of a telephone.


class Codes(Treeprocessor):
    def run(self, root):
        for code in root.iter("code"):
            if code.text and " " not in code.text and len(code.text) <= WHOLE:
                code.set("class", "whole")


class InlineCode(Extension):
    def extendMarkdown(self, md):
        md.treeprocessors.register(Codes(md), "inline_code", AFTER_INLINE)
