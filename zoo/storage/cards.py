"""Model cards, generated from `config.json` and `metadata.json`."""

from collections.abc import Mapping

PICTURES = {"Samples": "samples.png"}  # Of a card whose metadata names no others.


def render(config: Mapping, metadata: Mapping) -> str:
    """Returns the card of a preset as Markdown.

    Args:
      config: contents of `config.json`.
      metadata: contents of `metadata.json`.
    """
    metric = metadata["metric"]
    pictures = [f"![{what}]({file})" for what, file in metadata.get("pictures", PICTURES).items()]
    return f"""# {config["model"]}

{metadata["summary"]}

{(chr(10) * 2).join(pictures)}

```python
import zoo

model = zoo.create("{config["model"]}", pretrained=True)
samples = model.sample(16, seed=1)
```

| | |
| --- | --- |
| {metric["name"]} | {metric["value"]:.4f} |
| defined as | {metric["definition"]} |
| data | {metric["data"]} |
| measured by | `{metric["command"]}` |
| trained by | `{metadata["command"]}` |
| steps | {metadata["steps"]:,} |
| training took | {metadata["training_seconds"]:.0f} s on {metadata["machine"]} |
| parameters | {metadata["parameters"]:,} |
| versions | {", ".join(f"{k} {v}" for k, v in metadata["versions"].items())} |
| paper | {metadata["paper"]} |
| licence | {metadata["licence"]} |

Architecture:

{chr(10).join(f"- {key}: {value}" for key, value in config["arguments"].items())}
"""
