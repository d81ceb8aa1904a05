"""Every program with a model that is conditional on labels."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf
from absl import app
from PIL import Image

import tfflows
import zoo
from tests.trainers.tiny_runs import (
    check_same_weights,
    killed,
    run,
    run_and_copy,
    trained_weights,
)
from trainers import benchmark, evaluate, export, sample, score
from trainers.data import loading
from trainers.runs import callbacks

pytestmark = pytest.mark.usefixtures("tiny")
FLAGS = {"model": "tiny.digits", "condition": "label", "report_every": 2}


@pytest.fixture(scope="module")
def labelled(tiny, tmp_path_factory):
    """The folder of a run of four steps, given the labels of the digits."""
    workdir = tmp_path_factory.mktemp("run") / "labelled"
    run_and_copy(workdir, learning_rate=0.02, recipe=["context_dropout=0.1"], **FLAGS)
    return workdir


@pytest.fixture
def model(labelled):
    return zoo.open_trained(labelled / "preset", "digits")


def metadata(workdir):
    return json.loads((workdir / "preset" / "metadata.json").read_text())


def test_a_preset_knows_its_classes(labelled, model):
    config = json.loads((labelled / "config.json").read_text())
    assert config["arguments"]["context_size"] == 10
    assert config["classes"] == metadata(labelled)["classes"] == list("0123456789")
    digits = loading.load("digits", "train", batch_size=1, condition="label").labels
    np.testing.assert_allclose(model.class_frequencies, np.bincount(digits) / len(digits))
    card = (labelled / "preset" / "README.md").read_text()
    assert "| conditional on | label: 10 classes, 0, 1, 2" in card
    assert 'model.condition("9").sample(16, seed=1)' in card
    for line in callbacks.read_lines(labelled / "metrics.jsonl"):
        assert np.isfinite([line["bits_per_dim"], line["val_bits_per_dim"]]).all()
    for picture in ("samples/step_0000002.png", "preset/samples.png"):
        assert (labelled / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_volume_given_labels(tiny, tmp_path):
    run(workdir=str(tmp_path), volume=True, **FLAGS)
    assert (tmp_path / "volume.png").read_bytes().startswith(b"\x89PNG")


def test_the_distribution_of_a_class(model):
    assert model.is_conditional
    x = tf.zeros([2, 8, 8, 1], tf.uint8)
    both = model.given(tf.constant([3, 9])).score(x, [0, 1]).numpy()
    for place, label in enumerate(("3", 9)):
        alone = model.condition(label)
        assert alone.batch_shape == []
        found = -alone.log_prob(x, seed=[0, 1]) / (64 * np.log(2))
        np.testing.assert_allclose(found[place], both[place], rtol=1e-5)
    assert both[0] != both[1]
    assert model.condition("3").sample(2, seed=1).shape == [2, 8, 8, 1]
    for label in ("10", -1, "a", 10):
        with pytest.raises(ValueError, match=f"one of 10 classes, 0, 1, .*label={label}"):
            model.condition(label)
    with pytest.raises(ValueError, match="is not conditional on labels"):
        zoo.open_trained("glow.digits").condition(3)
    for wrong in (None, tf.constant([10])):
        with pytest.raises(ValueError, match="`y` must"):
            model.given(wrong)


def test_a_run_that_was_killed_goes_on(labelled):
    workdir = killed(labelled)
    run(workdir=str(workdir), resume=True)
    check_same_weights(workdir, labelled)
    with pytest.raises(ValueError, match="`--condition` can't change a run, whose condition is la"):
        run(workdir=str(workdir), resume=True, condition="colour")


def test_scores_are_those_of_the_true_labels_and_bayes_rule_is_by_hand(labelled, model, capsys):
    run(evaluate.main, workdir=str(labelled), split="test[:30]", batch_size=20)
    printed = capsys.readouterr().out
    assert "10 evaluations an image, one a class; --nobayes takes one" in printed
    metrics = json.loads((labelled / "metrics.json").read_text())
    data = loading.load("digits", "test[:30]", batch_size=20, condition="label")
    rows, labels = [], []
    for step, (x, y) in enumerate(data.dataset):
        each = [model.given(tf.fill([len(x)], k)).log_prob(x, [0, step]) for k in range(10)]
        rows.append(np.stack(each, axis=1).astype(np.float64))
        labels.append(y)
    rows, labels = np.concatenate(rows), np.concatenate(labels)
    of_label = rows[np.arange(30), labels]
    nats = 64 * np.log(2)
    assert metrics["bits_per_dim"] == pytest.approx(-of_label.mean() / nats, rel=1e-5)
    joint = rows + np.log(model.class_frequencies)
    assert metrics["accuracy"] == pytest.approx((joint.argmax(1) == labels).mean())
    mixture = np.logaddexp.reduce(joint, axis=1)
    assert metrics["mixture_bits_per_dim"] == pytest.approx(-mixture.mean() / nats, rel=1e-5)
    assert "P(x | y)" in metrics["definition"] and "10 classes" in metrics["definition"]
    assert f"accuracy          {100 * metrics['accuracy']:.2f} %" in printed


@pytest.mark.slow
def test_the_card_has_accuracy_and_mixture(labelled):
    run(evaluate.main, workdir=str(labelled), split="test[:30]", batch_size=20)
    metrics = json.loads((labelled / "metrics.json").read_text())
    run(evaluate.main, workdir=str(labelled), split="test[:30]", batch_size=20, bayes=False)
    once = json.loads((labelled / "metrics.json").read_text())
    assert once["bits_per_dim"] == pytest.approx(metrics["bits_per_dim"], rel=1e-5)
    assert "accuracy" not in once
    run(evaluate.main, workdir=str(labelled))
    card = (labelled / "preset" / "README.md").read_text()
    assert "| accuracy | " in card and "| mixture | " in card
    assert "P(x \\| y)" in card


def test_a_row_for_each_class(labelled, tmp_path, capsys):
    output = tmp_path / "samples.png"
    run(sample.main, workdir=str(labelled), output=str(output), count=3)
    assert "30 samples, 3 a row of each of 10 classes: 0, 1, " in capsys.readouterr().out
    width, height = Image.open(output).size
    assert (width % (3 * 9 + 1), height % (10 * 9 + 1)) == (0, 0)
    run(sample.main, workdir=str(labelled), output=str(output), label="3", count=4)
    assert "4 samples of the class 3" in capsys.readouterr().out
    run(sample.main, workdir=str(labelled), output=str(output), nearest=2)
    assert "10 samples, 1 of each of 10 classes: 0, 1, " in capsys.readouterr().out
    width, height = Image.open(output).size
    assert (width % (3 * 9 + 1), height % (10 * 9 + 1)) == (0, 0)
    with pytest.raises(ValueError, match="one of 10 classes.*label=11"):
        run(sample.main, workdir=str(labelled), label="11")
    with pytest.raises(ValueError, match="is not conditional on labels.*label=3"):
        run(sample.main, model="glow.digits", label="3")


def test_guidance(labelled, tmp_path, caplog):
    drawn = []
    for name, flags in (("a", {}), ("b", {"guidance": 2.0}), ("c", {"guidance": 0.0})):
        output = tmp_path / f"{name}.png"
        run(sample.main, workdir=str(labelled), output=str(output), label="3", count=4, **flags)
        drawn.append(output.read_bytes())
    assert drawn[0] != drawn[1] and drawn[0] == drawn[2]
    assert metadata(labelled)["context_dropout"] == 0.1
    assert "was trained without" not in caplog.text
    flags = {"label": "3", "count": 1, "output": str(tmp_path / "d.png")}
    run(sample.main, model="glow.digits_by_class", guidance=1.0, **flags)
    assert "_by_class was trained without --recipe=context_dropout=0.1" in caplog.text
    for flags in ({"model": "glow.digits"}, {"workdir": str(labelled), "interpolate": True}):
        with pytest.raises(app.UsageError, match="--guidance is for samples of a model that is co"):
            run(sample.main, guidance=1.0, **flags)


def test_pictures_of_test_images_have_their_labels(labelled, model, tmp_path, monkeypatch):
    x, y = sample.open_pairs(model, 5)
    assert len(x) == 10
    np.testing.assert_array_equal(y[::2], y[1::2])
    x, y = sample.open_pairs(model, 2, 7)
    assert y.numpy().tolist() == [7] * 4
    drawn = []
    monkeypatch.setattr(sample.pictures, "save_grid", lambda path, images, *_: drawn.append(images))
    assert sample.draw_between(model, tmp_path / "a.png", x, 0, y) == 2
    rows = np.reshape(drawn[0], [2, sample.BETWEEN, 8, 8, 1])
    np.testing.assert_array_equal(rows[:, 0], x[::2])
    np.testing.assert_array_equal(rows[:, -1], x[1::2])
    x, y = sample.open_events(model, 3, 7)
    sample.draw_levels(model.given(y), tmp_path / "b.png", x, [2], [], 1.0, 0)
    columns = np.reshape(drawn[1], [3, 2, 8, 8, 1])
    np.testing.assert_array_equal(columns[:, 0], columns[:, 1])


def read(path):
    return list(csv.DictReader(path.open()))


def test_scores_given_labels_and_of_the_mixture(labelled, model, tmp_path, capsys):
    for output, flags, said in (
        ("labels.csv", {"split": "test[:30]"}, ""),
        ("mixture.csv", {"split": "test[:30]", "mixture": True}, "Scores are of p(x), the mixture"),
    ):
        run(score.main, workdir=str(labelled), output=str(tmp_path / output), **flags)
        assert said in capsys.readouterr().out
    given, mixture = (read(tmp_path / f"{name}.csv") for name in ("labels", "mixture"))
    assert [row["label"] for row in given] == [
        str(i) for i in loading.load("digits", "test[:30]", batch_size=1, condition="label").labels
    ]
    for row, other in zip(given, mixture, strict=True):  # p(x) is the sum of p(x | y) p(y).
        frequency = model.class_frequencies[int(row["label"])]
        least = float(row["log_prob"]) + np.log(frequency)
        assert least - 1e-3 < float(other["log_prob"]) < least + 20
    assert "label" not in mixture[0]
    told = json.loads((tmp_path / "mixture.csv.json").read_text())
    assert told["job"]["given"] == "mixture" and "the mixture of 10 classes" in told["definition"]
    with pytest.raises(
        ValueError, match="must be new, or of the same scores: .* has given='label'"
    ):
        run(
            score.main,
            workdir=str(labelled),
            output=str(tmp_path / "labels.csv"),
            split="test[:30]",
            mixture=True,
        )


@pytest.mark.slow
def test_scores_of_data_without_labels(labelled, tmp_path, capsys):
    path, output = tmp_path / "images.npz", tmp_path / "none.csv"
    np.savez(path, test=np.arange(192, dtype=np.uint8).reshape(3, 8, 8) % 17)
    run(score.main, workdir=str(labelled), output=str(output), dataset=str(path))
    assert "Without labels: `" in capsys.readouterr().out
    assert len(read(output)) == 3


@pytest.mark.slow
def test_exports_take_labels_or_contexts(labelled, model, tmp_path):
    path = tmp_path / "exported"
    run(export.main, workdir=str(labelled), output=str(path))
    loaded = tf.saved_model.load(path)
    x, y = tf.zeros([2, 8, 8, 1], tf.uint8), tf.constant([3, 9])
    found = loaded.signatures["log_prob"](x=x, y=y, seed=tf.constant([0, 1]))
    expected = model.given(y).log_prob(x, [0, 1])
    np.testing.assert_allclose(found["log_prob"], expected, rtol=1e-5)
    for count in (0, 2):
        drawn = loaded.sample(y[:count], [0, 1])["x"]
        assert drawn.shape == (count, 8, 8, 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels 0 .. 9"):
        loaded.log_prob(x, [3, 10], [0, 1])


@pytest.mark.parametrize("num_classes", [None, 3])
def test_functions_to_export_take_labels_or_contexts(num_classes):
    model = zoo.create("maf.two_moons", num_blocks=1, width=4, context_size=3)
    module = export.make_module(model, num_classes=num_classes)
    labels = tf.constant([0, 2])
    y = labels if num_classes else tf.one_hot(labels, 3)
    x = module.sample(y, [0, 1])["x"]
    assert x.shape == [2, 2] and module.sample(y[:0], [0, 1])["x"].shape == [0, 2]
    bound = tfflows.condition(model, tf.one_hot(labels, 3))
    np.testing.assert_allclose(module.log_prob(x, y)["log_prob"], bound.log_prob(x), rtol=1e-4)
    np.testing.assert_allclose(module.decode(module.encode(x, y)["z"], y)["x"], x, atol=1e-4)


@pytest.mark.slow
def test_costs_of_a_conditional_model():
    entry = zoo.find("tiny.digits")
    assert benchmark.contexts(entry, 3) == []
    arguments = {**entry.arguments, "context_size": 10}
    changed = zoo.Model(**{**vars(entry), "arguments": arguments})
    run_ = benchmark.Run(changed, entry.recipe, jit="off", shards=1, num_examples=100)
    variant = benchmark.Variant(run_, 2, None)
    assert min(variant.turn()) > 0


@pytest.mark.slow
def test_starting_from_a_preset_without_labels(finished, tmp_path, capsys):
    run(
        init=str(finished / "preset"),
        condition="label",
        workdir=str(tmp_path / "run"),
        report_every=4,
        learning_rate=0.0,
    )
    assert "variables start from there" in capsys.readouterr().out
    before, after = trained_weights(finished), trained_weights(tmp_path / "run")
    same = [n for n in before if n in after and after[n].shape == before[n].shape]
    assert 0 < len(same) < len(after)
    for name in same:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)


@pytest.mark.slow
def test_starting_from_a_preset_with_labels_asks_for_them_again(labelled, tmp_path):
    path = tmp_path / "run"
    run(init=str(labelled), workdir=str(path), report_every=4, learning_rate=0.0)
    assert metadata(path)["classes"] == list("0123456789")
    before, after = trained_weights(labelled), trained_weights(path)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_what_no_run_can_be_conditional_on(tmp_path, npz_of_digits):
    workdir, levels = tmp_path / "run", {"set": ["num_levels=256"]}
    base = {"model": "tiny.digits", "workdir": str(workdir)}
    for flags, message in (
        ({"condition": "colour"}, r"must be label for these data\. Received: --condition=colour"),
        (
            {"condition": "label", "dataset": npz_of_digits(labels=None), **levels},
            "must have labels",
        ),
        (
            {"condition": "label", "dataset": npz_of_digits(labels=[0] * 20), **levels},
            "2 to 4096 classes",
        ),
        ({"set": ["context_size=10"]}, "needs `--condition=label`"),
        ({"set": ["context_size=9"], "condition": "label"}, "is the number of classes"),
        (
            {
                "condition": "label",
                "dataset": npz_of_digits(labels=[0, 1] * 10, validation_labels=[0, 2] * 10),
                **levels,
            },
            "validation.* labels of the model's 2 classes: 0, 1. Received: 10 of 20 events of 1 o",
        ),
        ({"condition": "label", "model": "maf.two_moons"}, "two_moons, points without any"),
        ({"condition": "label", "model": "maf.table"}, "`--condition_columns`"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**base | flags)
        assert not workdir.exists()


@pytest.fixture
def npz_of_digits(tmp_path):
    """Writes images, and labels of those for training and validation; returns the name."""

    def write(labels, validation_labels=None):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npz"
        pixels = np.arange(20 * 64, dtype=np.uint8).reshape(20, 8, 8) % 17
        arrays = {"train": pixels}
        if labels is not None:
            arrays["train_labels"] = labels
        if validation_labels is not None:
            arrays |= {"validation": pixels, "validation_labels": validation_labels}
        np.savez(path, **arrays)
        return str(path)

    return write
