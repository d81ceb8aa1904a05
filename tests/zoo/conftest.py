"""Presets as strangers would make them."""

import pytest

from tests.zoo import fuzz_presets
from zoo.storage import presets


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a preset."""
    path = tmp_path_factory.mktemp("strangers") / "preset"
    fuzz_presets.make_preset(path)
    return path


@pytest.fixture
def preset(whole, tmp_path):
    """A copy of it, with hard links: what is written anew leaves the first as it is."""
    path = tmp_path / "preset"
    path.mkdir()
    for name in ("config.json", "metadata.json", presets.WEIGHTS):
        (path / name).write_bytes((whole / name).read_bytes())
    return path
