"""Formulas as MathML, which browsers draw by themselves: no JavaScript, no fonts, no network.

In pages they are written as GitHub takes them, too: a block of code whose language is `math`, or
$`f(x)`$ in a line.
"""

from latex2mathml import converter
from markdown import Extension
from markdown.inlinepatterns import InlineProcessor

PATTERN = r"(?<!`)\$`([^`]+)`\$(?!`)"
BEFORE_CODE = 195  # That of `code` is 190.


def block(source, language, css_class, options, md, **kwargs):
    """What pymdownx.superfences writes in the place of a block."""
    return f'<div class="formula">{converter.convert(source, display="block")}</div>'


class Inline(InlineProcessor):
    def handleMatch(self, match, data):
        formula = self.md.htmlStash.store(converter.convert(match[1]))
        return formula, match.start(0), match.end(0)


class MathML(Extension):
    def extendMarkdown(self, md):
        md.inlinePatterns.register(Inline(PATTERN, md), "mathml", BEFORE_CODE)
