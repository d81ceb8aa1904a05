"""Samples of runs: pictures, latents drawn anew, and samples that are NaN."""

import numpy as np
import pytest
import tensorflow as tf
from absl import app
from absl.testing import flagsaver
from PIL import Image

import zoo
from tests.trainers.failing_models import failing
from tests.trainers.tiny_runs import run
from trainers import evaluate, sample

pytestmark = pytest.mark.usefixtures("tiny")


def test_figure_of_latents_drawn_anew(finished):
    model = zoo.open_trained(finished / "preset")
    x = tf.cast(tf.random.stateless_uniform([3, 8, 8, 1], [0, 1], 0, 17, tf.int32), tf.uint8)
    images, columns = sample.perturb(model, x, [0, 2], [0, 2], 0.5, seed=0)
    assert images.shape == (3 * 2 * 3, 8, 8, 1)
    assert columns == 3
    picture = np.reshape(images, [3, 2, 3, 8, 8, 1])  # image, row, column
    for original in (picture[:, 0, 0], picture[:, 1, 0], picture[:, 0, 2], picture[:, 1, 1]):
        np.testing.assert_array_equal(original, x)
    assert np.any(picture[:, 0, 1] != x)
    assert np.any(picture[:, 1, 2] != x)
    with pytest.raises(ValueError, match="`--keep_levels` must be from 0 to 2"):
        sample.perturb(model, x, [3], [], 0.5, seed=0)
    with pytest.raises(ValueError, match="must be of one length"):
        sample.perturb(model, x, [1], [1, 2], 0.5, seed=0)


def test_levels_and_data_must_be_those_of_the_model(finished, points):
    for values, match in (
        ({"keep_levels": ["0", "a"]}, "--keep_levels must be numbers.*Received: --keep_levels=0,a"),
        (
            {"keep_levels": ["0"], "dataset": "two_moons"},
            r"shape \(8, 8, 1\).*two_moons with .*\(2,\)",
        ),
        ({"keep_levels": ["0"], "workdir": str(points)}, "are for models of images"),
    ):
        with pytest.raises((ValueError, app.UsageError), match=match):
            run(sample.main, **{"workdir": str(finished), **values})
    with pytest.raises(ValueError, match=r"shape \(2,\).*--dataset=digits with .*\(8, 8, 1\)"):
        run(evaluate.main, workdir=str(points), dataset="digits")


def test_sample_draws_a_picture(finished, capsys):
    run(sample.main, workdir=str(finished), count=9, temperature=0.7)
    assert "9 samples at temperature 0.7" in capsys.readouterr().out
    assert (finished / "samples.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_of_points(points):
    assert (points / "samples" / "step_0000004.png").read_bytes().startswith(b"\x89PNG")
    run(sample.main, workdir=str(points))
    assert (points / "samples.png").read_bytes().startswith(b"\x89PNG")


def test_what_lies_between(finished, points, tmp_path, capsys):
    run(sample.main, workdir=str(finished), interpolate=True, count=3)
    assert f"3 pairs of test images and what lies between: {finished}" in capsys.readouterr().out
    width, height = Image.open(finished / "samples.png").size
    assert width % (sample.BETWEEN * 9 + 1) == height % (3 * 9 + 1) == 0
    model = zoo.open_trained(finished / "preset")
    x, _ = sample.open_events(model, 5)
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample.pictures, "save_grid", lambda path, images, *_: drawn.append(images))
        assert sample.draw_between(model, tmp_path / "a.png", x, 0) == 2
    rows = np.reshape(drawn[0], [2, sample.BETWEEN, 8, 8, 1])
    np.testing.assert_array_equal(rows[:, 0], x[:4:2])
    np.testing.assert_array_equal(rows[:, -1], x[1:4:2])
    run(sample.main, workdir=str(points), interpolate=True, output=str(tmp_path / "ways.png"))
    assert "8 pairs of test points and what lies between" in capsys.readouterr().out
    assert (tmp_path / "ways.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="needs two images or more.* 1 events"):
        sample.draw_between(model, tmp_path / "b.png", x[:1], 0)
    for values in ({"keep_levels": ["0"]}, {"temperature": 0.5}):
        with pytest.raises(app.UsageError, match="--interpolate draws a figure of its own"):
            run(sample.main, workdir=str(finished), interpolate=True, **values)
    run(sample.main, workdir=str(points), interpolate=True, count=1, split="validation[:2]")
    assert "1 pairs of validation[:2] points" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"`split` \(--split\) must be one that the data have"):
        run(sample.main, workdir=str(points), interpolate=True, split="tests")


def test_nearest_images(finished, points, tmp_path, capsys, npz_of_images):
    """Each row is a sample and then images of the split, the nearest first."""
    images, output = npz_of_images
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sample.pictures, "save_grid", lambda _, rows, *more: drawn.append((rows, more[1]))
        )
        patch.setattr(sample, "AT_ONCE", 7)  # The last batch has 6.
        run(sample.main, workdir=str(finished), nearest=3, count=4, dataset=output)
    assert "4 samples at temperature 1.0" in capsys.readouterr().out
    ((rows, columns),) = drawn
    assert columns == 4
    rows = rows.reshape(4, 4, 8, 8, 1).astype(int)
    for row in rows:
        distances = np.square(images.astype(int) - row[0]).sum((1, 2, 3))
        np.testing.assert_array_equal(row[1:], images[np.argsort(distances, kind="stable")[:3]])
    run(sample.main, workdir=str(finished), nearest=2, split="validation[:5]", count=2)
    said = capsys.readouterr().out
    assert said.startswith("Of 5 images of digits, validation[:5], the nearest to a sample is ")
    assert "of 17 values a pixel away" in said
    width, height = Image.open(finished / "samples.png").size
    assert width % (3 * 9 + 1) == height % (2 * 9 + 1) == 0
    for values, error, match in (
        ({"nearest": 21, "dataset": output}, ValueError, "must be 20 at most.* --nearest=21"),
        ({"nearest": 2, "interpolate": True}, app.UsageError, "goes without --interpolate"),
        ({"nearest": 2, "keep_levels": ["0"]}, app.UsageError, "goes without --interpolate"),
        ({"nearest": 2, "workdir": str(points)}, ValueError, "`--nearest` is for models of images"),
        ({"nearest": 2, "dataset": "two_moons"}, ValueError, r"shape \(8, 8, 1\)"),
    ):
        with pytest.raises(error, match=match):
            run(sample.main, **{"workdir": str(finished), **values})


@pytest.fixture
def npz_of_images(tmp_path):
    """Images, and the name of the data that has them as its training split."""
    images = np.random.default_rng(0).integers(17, size=[20, 8, 8, 1], dtype=np.uint8)
    np.savez(tmp_path / "images.npz", train=images)
    return images, str(tmp_path / "images.npz")


def draw(model, monkeypatch, output):
    """Runs `trainers.sample` with `model` in the place of a preset's."""
    trained = zoo.Trained(model, zoo.find("glow.digits"), "digits", output.parent)
    monkeypatch.setattr(sample.command_line, "open_model", lambda: (trained, None))
    with flagsaver.flagsaver(model="a preset", output=str(output), count=20):
        sample.main(["binary"])


@pytest.mark.parametrize(("loc", "said"), [(1.0, " of 20 samples at"), (50.0, "\n20 samples at")])
def test_sample_says_how_many_are_in_the_picture(loc, said, tmp_path, monkeypatch, capsys):
    draw(failing((2, 2, 1), loc), monkeypatch, tmp_path / "samples.png")
    assert said in f"\n{capsys.readouterr().out}"
    assert (tmp_path / "samples.png").exists()


def test_sample_fails_if_all_samples_are_nan(tmp_path, monkeypatch):
    with pytest.raises(ArithmeticError, match="All 20 samples are NaN"):
        draw(failing((2, 2, 1), -50.0), monkeypatch, tmp_path / "samples.png")


def test_noise_of_a_model_is_taken_out_of_its_samples(tmp_path, capsys):
    workdir = str(tmp_path / "run")
    small = ["noise=0.4", "width=8", "num_blocks=1", "depth=1"]
    run(model="tarflow.digits", set=small, steps=1, report_every=1, workdir=workdir)
    run(evaluate.main, workdir=workdir, split="test[:8]")
    text = "x drawn after y ~ p from N(y, 0.4^2) on the integers"
    assert text in capsys.readouterr().out
    drawn = []
    for denoise in (False, True):
        output = tmp_path / f"{denoise}.png"
        run(sample.main, workdir=workdir, output=str(output), count=4, denoise=denoise)
        drawn.append(output.read_bytes())
    assert drawn[0] != drawn[1]


def test_there_is_no_noise_to_take_out(finished):
    for flags in ({"model": "glow.digits"}, {"workdir": str(finished), "interpolate": True}):
        with pytest.raises(app.UsageError, match="--denoise is for samples of a model that was tr"):
            run(sample.main, denoise=True, **flags)
