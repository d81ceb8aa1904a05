"""Runs on pictures of any size: the model follows, all programs do the same to them."""

import json

import numpy as np
import pytest

import zoo
from tests.trainers.data.image_sets import save_mixed
from tests.trainers.tiny_runs import check_same_weights, killed_at_epoch, run
from trainers import evaluate, sample, score
from trainers.runs import callbacks

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of pictures of many sizes."""
    root = tmp_path_factory.mktemp("pictures")
    save_mixed(root, 24)
    for split in ("validation", "test"):
        save_mixed(root / split, 8, seed=len(split))
        for path in (root / split / "train").iterdir():
            path.rename(root / split / path.name)
        (root / split / "train").rmdir()
    return root


FLAGS = {"image_size": "8x12", "crop": "random", "resize": "lanczos", "recipe": ["flip=true"]}


@pytest.fixture(scope="module")
def trained(tiny, pictures, tmp_path_factory):
    """The folder of a run."""
    workdir = tmp_path_factory.mktemp("run") / "run"
    flags = {"model": "tiny.digits", "dataset": str(pictures), "report_every": 2}
    run(workdir=str(workdir), **flags, **FLAGS)
    return workdir


def test_the_model_is_one_of_the_images(trained, pictures):
    config = json.loads((trained / "config.json").read_text())
    assert config["arguments"]["image_shape"] == [8, 12, 1]
    assert config["arguments"]["num_levels"] == 256
    assert (config["image_size"], config["crop"], config["resize"]) == (
        [8, 12],
        "random",
        "lanczos",
    )
    assert zoo.load(trained / "preset").event_shape == (8, 12, 1)
    metadata = json.loads((trained / "preset" / "metadata.json").read_text())
    assert metadata["preparation"] == {
        "image_size": [8, 12],
        "crop": "random",
        "resize": "lanczos",
    }
    card = (trained / "preset" / "README.md").read_text()
    assert "| pictures | cropped at random to 8:12, resized to 8x12 by lanczos, in grey |" in card


@pytest.mark.slow
def test_a_run_on_random_crops_that_was_killed_goes_on(trained, pictures, tmp_path):
    flags = {"model": "tiny.digits", "dataset": str(pictures), "report_every": 2}
    workdir = tmp_path / "run"
    with killed_at_epoch(1):
        run(workdir=str(workdir), **flags, **FLAGS)
    run(workdir=str(workdir), resume=True, report_every=2)
    check_same_weights(workdir, trained)
    lines = [callbacks.read_lines(w / "metrics.jsonl") for w in (trained, workdir)]
    for one, other in zip(*lines, strict=True):
        assert one["val_bits_per_dim"] == other["val_bits_per_dim"]


def test_scores_are_of_the_same_preparation(trained, pictures, tmp_path):
    run(evaluate.main, workdir=str(trained))
    metrics = json.loads((trained / "metrics.json").read_text())
    assert "test, 8 images made of 8 pictures of" in metrics["data"]
    assert "cropped at random to 8:12, resized to 8x12 by lanczos, in grey" in metrics["data"]
    run(
        score.main,
        model=str(trained / "preset"),
        dataset=str(pictures),
        output=str(tmp_path / "s.csv"),
    )
    rows = (tmp_path / "s.csv").read_text().splitlines()
    assert len(rows) == 9 and rows[1].split(",")[1].startswith("test/000")
    mean = np.mean([float(row.split(",")[2]) for row in rows[1:]])
    assert mean == pytest.approx(metrics["bits_per_dim"], rel=1e-5)
    job = json.loads((tmp_path / "s.csv.json").read_text())["job"]
    assert job["preparation"]["image_size"] == [8, 12]


@pytest.mark.slow
def test_flags_change_the_preparation(trained, tmp_path):
    whole = {"crop": "none", "resize": "area", "output": str(tmp_path / "metrics.json")}
    run(evaluate.main, workdir=str(trained), **whole)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert "in whole, resized to 8x12 by area" in metrics["data"]
    run(sample.main, workdir=str(trained), keep_levels=["0", "1"], count=2)
    assert (trained / "samples.png").exists()
    with pytest.raises(ValueError, match="takes events of shape"):
        run(evaluate.main, workdir=str(trained), image_size="16")


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (
            {"image_size": "9"},
            r"divisible by 4 for 'tiny.digits'; the nearest is --image_size=8x8\.",
        ),
        ({"image_size": "8x2"}, r"nearest is --image_size=8x4\. Received: --image_size=8x2"),
        ({"image_size": "0"}, "Received: --image_size=0"),
        ({"image_size": "64000"}, "up to 4096. Received: --image_size=64000"),
        ({"crop": "none"}, "need `--image_size`.*Received: --crop=none"),
        ({"image_size": "8", "dataset": "digits"}, "is for pictures of 8 bits.*Received: digits"),
        ({"model": "realnvp.rings", "image_size": "8"}, "must be a model of images"),
        ({}, "8 bits, grey or RGB"),
    ],
)
def test_sizes_that_no_run_can_have(flags, match, pictures, tmp_path):
    with pytest.raises(ValueError, match=match):
        flags = {"model": "tiny.digits", "dataset": str(pictures), **flags}
        run(workdir=str(tmp_path / "run"), **flags)
    assert not (tmp_path / "run").exists()


def test_points_are_no_pictures(points):
    with pytest.raises(ValueError, match="are for models of images"):
        run(evaluate.main, workdir=str(points), image_size="8")


@pytest.mark.data
@pytest.mark.slow
def test_photographs_at_128(tmp_path):
    run(
        model="glow.cifar10_small"
        if "glow.cifar10_small" in zoo.list_models()
        else "convexp_glow.cifar10_small",
        set=["steps=[1,1,1]", "widths=[4,4,4]"],
        dataset="/work/shared/data/ffhq1024_10.npz",
        image_size="128",
        crop="random",
        batch_size=2,
        steps=2,
        report_every=1,
        workdir=str(tmp_path / "run"),
    )
    assert zoo.load(tmp_path / "run" / "preset").event_shape == (128, 128, 3)
