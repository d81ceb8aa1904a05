"""The weights in the package: each reaches the figure on its card."""

import math

import pytest

import zoo
from trainers import data, evaluate
from zoo import cards, presets

NAMES = zoo.list_models(pretrained=True)


def test_the_promised_models_have_weights():
    promised = {
        "balanced.checkerboard",
        "balanced.digits",
        "balanced.two_moons",
        "gnf_convexp.mog4",
    }
    promised |= {"convexp_glow.digits", "glow.digits", "gnf_convexp.mog4"}
    assert promised <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_card_follows_from_metadata_and_names_no_folder_of_its_author(name):
    config, metadata = (
        presets.read_json(presets.folder(name) / f"{file}.json") for file in ("config", "metadata")
    )
    assert presets.read_card(name) == cards.render(config, metadata)
    for command in (metadata["command"], metadata["metric"]["command"]):
        assert "--workdir=runs/" in command


@pytest.mark.parametrize("name", NAMES)
def test_card_states_what_the_weights_reach(name):
    metadata = presets.read_json(presets.folder(name) / "metadata.json")
    metric = metadata["metric"]
    dataset, split = metric["data"].split(", ")[:2]
    assert metric["name"].startswith("test ")
    assert f"| {metric['name']} | {metric['value']:.4f} |" in presets.read_card(name)
    for file in metadata.get("pictures", {"Samples": "samples.png"}).values():
        assert (presets.folder(name) / file).read_bytes().startswith(b"\x89PNG")
    # All 400 digits, with the noise of the figure; a tenth of the points.
    part = split if dataset == "digits" else f"{split}[:5000]"
    source = data.load(dataset, part, batch_size=200)
    model = zoo.create_trained(name, pretrained=True)
    scores = evaluate.score(model, source.dataset, source.num_examples, 1, seed=0)
    error = float(scores.std(ddof=1)) / math.sqrt(len(scores))
    tolerance = 1e-3 if dataset == "digits" else 4 * error
    assert scores.mean() == pytest.approx(metric["value"], abs=tolerance)
