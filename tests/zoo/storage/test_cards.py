"""Cards of the weights in the package."""

import pytest

import zoo
from zoo.storage import cards, files, presets

NAMES = zoo.list_models(pretrained=True)


@pytest.mark.parametrize("name", NAMES)
def test_card_follows_from_metadata_and_names_no_folder_of_its_author(name):
    config, metadata = (
        files.read_json(presets.folder(name) / f"{file}.json") for file in ("config", "metadata")
    )
    assert presets.read_card(name) == cards.render(config, metadata)
    for command in (metadata["command"], metadata["metric"]["command"]):
        assert "--workdir=runs/" in command
