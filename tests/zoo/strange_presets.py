"""Presets that are altered, and refused."""

import json

import pytest

import zoo
from zoo.storage import files, presets


def refused(preset, match):
    with pytest.raises(ValueError, match=match) as caught:
        zoo.load(str(preset))
    assert str(preset) in str(caught.value)


def configure(preset, **arguments):
    config = json.loads((preset / "config.json").read_text())
    config["arguments"] |= arguments
    (preset / "config.json").write_text(json.dumps(config))


def sign(preset):
    """Makes the SHA-256 in metadata.json that of the weights."""
    metadata = json.loads((preset / "metadata.json").read_text())
    digest = files.sha256(preset / presets.WEIGHTS)
    (preset / "metadata.json").write_text(json.dumps({**metadata, "sha256": digest}))
