"""What other programs show of a link to a page: title, description, picture."""

import html
import posixpath
import re
from urllib.parse import urljoin

IMAGE = "images/social_card.png"
LONGEST = 200  # Of a description; what is longer is cut by those that show it.
PARAGRAPH = re.compile(r"<p>(.*?)</p>", re.DOTALL)
LEFT_OUT = re.compile(r"<(script|style|math)\b.*?</\1>|<[^>]*>", re.DOTALL)


def describe(content):
    """Returns the first paragraph of a page that is text, cut, as the value of an attribute."""
    for paragraph in PARAGRAPH.findall(content):
        text = " ".join(html.unescape(LEFT_OUT.sub("", paragraph)).split())
        if len(text) > 20:  # Less is a label.
            return html.escape(shorten(text))
    return None


def shorten(text):
    if len(text) <= LONGEST:
        return text
    whole = re.match(rf".{{60,{LONGEST}}}(?<=[.?!:;])(?= [A-Z])", text)
    return whole[0].rstrip(":;") if whole else f"{text[:LONGEST].rpartition(' ')[0]}..."


def add(output, page, config):
    """Returns the HTML of a page with its card in the head.

    The address of the picture is whole where the site's is known, else relative to the page.
    """
    title = page.title if page.title == config.site_name else f"{page.title} - {config.site_name}"
    place = posixpath.relpath(IMAGE, posixpath.dirname(page.url) or ".")
    image = urljoin(config.site_url, IMAGE) if config.site_url else place
    card = {
        "og:type": "website",
        "og:site_name": config.site_name,
        "og:title": html.escape(title),
        "og:description": page.meta.get("description") or config.site_description,
        "og:image": image,
        "og:url": page.canonical_url,
    }
    tags = [f'<meta property="{name}" content="{value}">' for name, value in card.items() if value]
    tags.append('<meta name="twitter:card" content="summary_large_image">')
    return output.replace("</head>", "\n".join([*tags, "</head>"]), 1)
