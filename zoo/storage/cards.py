"""Model cards, generated from `config.json` and `metadata.json`."""

import json
from collections.abc import Mapping
from typing import Any

PICTURES = {"Samples": "samples.png"}  # Of a card whose metadata names no others.
_MOST_STAGES = 20  # Of other presets, which may come from strangers.
_LONGEST = 500  # Text.
_MOST_CLASSES = 20  # Whose names are shown.


def render(config: Mapping, metadata: Mapping) -> str:
    """Returns the card of a preset as Markdown.

    Args:
      config: contents of `config.json`.
      metadata: contents of `metadata.json`.
    """
    metric = metadata["metric"]
    arguments = config["arguments"]
    plain = [f"- {key}: {v}" for key, v in arguments.items() if not _is_columns(v)]
    tables = [_columns(key, value) for key, value in arguments.items() if _is_columns(value)]
    pictures = [f"![{what}]({file})" for what, file in metadata.get("pictures", PICTURES).items()]
    rows = [
        (metric["name"], f"{metric['value']:.4f}"),
        *metric.get("others", {}).items(),
        ("defined as", metric["definition"]),
        ("data", metric["data"]),
        ("measured by", f"`{metric['command']}`"),
        ("trained by", f"`{metadata['command']}`"),
        ("steps", f"{metadata['steps']:,}"),
        *_condition(metadata),
        *metadata.get("remarks", {}).items(),
        ("training took", f"{metadata['training_seconds']:.0f} s on {metadata['machine']}"),
        ("parameters", f"{metadata['parameters']:,}"),
        ("versions", ", ".join(f"{k} {v}" for k, v in metadata["versions"].items())),
        ("paper", metadata["paper"]),
        ("licence", metadata["licence"]),
    ]
    return f"""# {config["model"]}

{metadata["summary"]}

{(chr(10) * 2).join(pictures)}

```python
import zoo

{_use(config["model"], metadata.get("classes"), arguments.get("condition_columns"))}
```

| | |
| --- | --- |
{chr(10).join(f"| {name} | {_barless(value)} |" for name, value in rows)}
{_describe_stages(metadata.get("stages", []))}
Architecture:

{chr(10).join(plain)}
{"".join(tables)}"""


def _condition(metadata):
    """Returns the row that says what a model is conditional on, if it is on labels."""
    if not (classes := metadata.get("classes")):
        return []
    names = ", ".join([*classes[:_MOST_CLASSES], *["..."][: len(classes) > _MOST_CLASSES]])
    what = f"{metadata['condition']}: {len(classes)} classes, {' '.join(names.split())}"
    return [("conditional on", what)]


def _use(model, classes, given):
    """Returns the lines that draw samples of a model."""
    if given and _is_columns(given):
        means = json.dumps([float(f"{column['loc']:.4g}") for column in given])
        return (
            f'model = zoo.open_trained("{model}")\n'
            f"samples = model.given({means}).distribution.sample(16, seed=1)"
        )
    if not classes:
        return f'model = zoo.create("{model}", pretrained=True)\nsamples = model.sample(16, seed=1)'
    return (
        f'model = zoo.open_trained("{model}")\n'
        f"samples = model.condition({json.dumps(classes[-1])}).sample(16, seed=1)"
    )


def list_stages(model: str, metadata: Mapping) -> list[dict[str, Any]]:
    """Returns the stages of the training of a preset, for one that starts from it.

    Args:
      model: name of the preset's model.
      metadata: its `metadata.json`, which may come from strangers.
    """
    *before, last = _stages(metadata) or [{}]
    metric = metadata.get("metric")
    metric = metric if isinstance(metric, Mapping) else {}
    own = {key: metadata.get(key) for key in ("command", "steps", "licence", "sha256")}
    own |= {f"metric_{key}": metric.get(key) for key in ("name", "value", "data")}
    return [*before, {**last, "model": model, **_plain(own)}]


def _stages(metadata):
    """Returns the stages that metadata tell of, as far as they can be."""
    stages = metadata.get("stages")
    stages = stages[-_MOST_STAGES:] if isinstance(stages, list) else []
    return [_plain(stage) for stage in stages if isinstance(stage, Mapping)]


def _plain(stage):
    """Returns the entries that are short texts or numbers."""
    texts = {k: " ".join(v.split())[:_LONGEST] for k, v in stage.items() if isinstance(v, str)}
    numbers = {k: v for k, v in stage.items() if isinstance(v, (int, float))}
    return {str(key)[:_LONGEST]: value for key, value in (texts | numbers).items()}


def _describe_stages(stages):
    """Returns the part of a card that tells of the stages of a training, or no text."""
    if not stages:
        return ""
    lines = []
    for number, stage in enumerate(stages, start=1):
        parts = []
        if "variables" in stage:
            parts.append(
                f"from those weights, {stage['fitting']} of {stage['variables']} variables"
            )
        if "data" in stage:
            parts.append(f"on {stage['data']}")
        if "frozen" in stage:
            trained, count = stage["trained_parameters"], stage["parameters"]
            parts.append(f"{trained:,} of {count:,} parameters trained, frozen {stage['frozen']}")
        if "model" in stage:
            parts.append(f"`{stage['model']}`")
        if "metric_name" in stage and "metric_value" in stage:
            parts.append(f"{stage['metric_name']} {stage['metric_value']:.4f}")
            parts[-1] += f" on {stage['metric_data']}" if "metric_data" in stage else ""
        if "steps" in stage:
            parts.append(f"{stage['steps']:,} steps")
        parts += [f"`{stage['command']}`"] if "command" in stage else []
        parts += [f"{key} {stage[key]}" for key in ("licence", "sha256") if key in stage]
        lines.append(f"{number}. {'; '.join(parts)}")
    return "\nTrained in stages:\n\n" + "\n".join(lines) + "\n"


def _is_columns(value):
    """Returns whether an argument is a list of the columns of a table."""
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _columns(argument, columns):
    """Returns the columns of a table as a table."""
    rows = [
        f"| {_cell(c['name'])} | {c['kind']} | {_bound(c, 'low')} | {_bound(c, 'high')} |"
        for c in columns
    ]
    header = f"\n{argument}:\n\n| name | kind | from | to |\n| --- | --- | --- | --- |"
    return "\n".join([header, *rows, ""])


def _bound(column, name):
    return "" if column.get(name) is None else f"{column[name]:g}"


def _cell(value):
    """Returns a text in one cell of a table in Markdown."""
    return _barless(" ".join(str(value).split()))


def _barless(text):
    """Returns a text without bars that would end a cell."""
    return str(text).replace("|", "\\|")
