"""The page of all pretrained models, made of the presets in zoo/weights: it cannot go stale."""

import html
import io
import json
import re

from PIL import Image

LARGE = 400_000  # Bytes of a picture from which it is reduced to 256 colours.
FOLDER = "presets"  # Of the pictures in the site.
CURVE = "training_curve.png"
CLASSES = {CURVE: "curve", "deformation.png": "strip"}  # Of pictures, in docs/site.css.
PICTURE = re.compile(r"!\[(.*?)\]\((.*?)\)\n*")
TITLES = {
    "cifar10": "CIFAR-10",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "digits": "The digits of scikit-learn",
}
NOT_IMAGES = {"points": "Points in the plane", "sets": "Sets of points", "rows": "Tables"}


def pictures(root):
    """Path in the site and content of each picture of a preset."""
    for path in sorted((root / "zoo/weights").glob("*/*.png")):
        yield f"{FOLDER}/{path.parent.name}/{path.name}", shrunk(path)


def shrunk(path):
    content = path.read_bytes()
    if len(content) > LARGE:
        buffer = io.BytesIO()
        Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG")
        content = buffer.getvalue()
    return content


def describe(root):
    """The models by what they are of: first a table of pictures, then a part for each."""
    groups = {}
    for folder in sorted((root / "zoo/weights").iterdir()):
        metadata = json.loads((folder / "metadata.json").read_text())
        groups.setdefault(title_of(metadata["metric"]), []).append((folder, metadata))
    order = [*TITLES.values(), *sorted(groups.keys() - TITLES.values())]
    parts = []
    for title in filter(groups.__contains__, order):
        models = groups[title]
        parts += [f"## {title}", '<div class="gallery">']
        parts += [
            thumbnail(folder.name, score_of(metadata))
            for folder, metadata in models
            if (folder / "samples.png").exists()
        ]
        parts += ["</div>", ""]
        for folder, metadata in models:
            parts += [*part(folder, metadata, root), ""]
    return "\n".join(parts)


def title_of(metric):
    """By what a score is of, "checkerboard, test, 50000 points"; of images, by their data."""
    data, *_, noun = metric["data"].replace(",", " ").split()
    return NOT_IMAGES.get(noun) or TITLES.get(data, data)


def score_of(metadata):
    metric = metadata["metric"]
    return f"{metric['value']:.3f} {metric['name'].removeprefix('test ')}"


def thumbnail(name, text):
    broken = name.replace(".", ".<wbr>")
    return (
        f'<a href="#{anchor(name)}"><img src="{FOLDER}/{name}/samples.png" loading="lazy" '
        f'alt="Samples of {name}"><span>{broken}<br>{text}</span></a>'
    )


def anchor(name):
    return name.replace(".", "-")


def part(folder, metadata, root):
    """Headline, pictures and card of a model."""
    name = folder.name
    card = (folder / "README.md").read_text()
    minutes = metadata["training_seconds"] / 60
    machine = metadata["machine"].replace("1 CPU cores", "1 CPU core")
    yield f"### {name} {{ #{anchor(name)} }}\n\n{metadata['summary']}\n"
    yield (
        f"**{score_of(metadata)}** of {metadata['metric']['data']}; {metadata['parameters']:,} "
        f"parameters; {metadata['steps']:,} steps, {minutes:,.1f} minutes on {machine}.\n"
    )
    yield '<div class="pictures">'
    for text, file in PICTURE.findall(card):
        yield picture(f"{FOLDER}/{name}/{file}", f"{text} of {name}", CLASSES.get(file, "samples"))
    between = f"images/between/{name}.png"
    if (root / "docs" / between).exists():
        text = "Pairs of test images, and what is decoded between their latents"
        yield picture(between, text, "between")
    yield "</div>\n"
    if CURVE not in card:
        yield "No training curve of it was kept.\n"
    _, _, rest = PICTURE.sub("", card).partition("\n```python")
    yield from [f'??? note "Card of {name}"', ""]
    yield from (f"    {line}".rstrip() for line in ("```python" + rest).splitlines())


def picture(path, text, css_class):
    return (
        f'<figure class="{css_class}"><img src="{path}" alt="{html.escape(text)}" loading="lazy">'
        f"<figcaption>{html.escape(text)}</figcaption></figure>"
    )
