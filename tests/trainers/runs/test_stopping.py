"""The best weights, runs that end early, and scores that part ways."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfflows
from tests.trainers.runs.small_runs import small_model
from trainers.runs import backup, stopping
from trainers.runs.stopping import PartingWarning, Stopping, part_ways


def follow(best, model, scores):
    """Reports scores, each after a step; returns those at which the run would end."""
    best.set_model(model)
    ended = []
    for number, score in enumerate(scores, start=1):
        model.stop_training = False
        model.optimizer.iterations.assign(number)
        model.weights[0].assign(np.full(model.weights[0].shape, number, np.float32))
        best.on_epoch_end(number, {"val_nats": score})
        ended += [number] if model.stop_training else []
    return ended


@pytest.mark.parametrize(
    ("scores", "patience", "step", "waited", "ended"),
    [
        ([3.0, 2.0, 1.0], 2, 3, 0, []),
        ([3.0, 2.0, 2.0, 2.5], 2, 2, 2, [4]),
        ([3.0, 2.5, 2.7, 2.4, 2.6, 2.6, 9.0], 3, 4, 3, [7]),
        ([float("nan"), 2.0, float("nan")], 1, 2, 1, [1, 3]),
        ([3.0, 4.0, 5.0], None, 1, 2, []),
    ],
)
def test_the_best_report_is_followed(scores, patience, step, waited, ended):
    best, model = Stopping("val_nats", patience, True), small_model()
    assert follow(best, model, scores) == ended
    assert (best.step, best.waited, best.is_over) == (step, waited, bool(ended))
    assert best.score == np.nanmin(scores)
    assert best.load(model) == step
    np.testing.assert_array_equal(model.weights[0], np.full(2, step, np.float32))


def test_what_is_followed_is_in_the_backup(tmp_path):
    best, model = Stopping("val_nats", 3, True), small_model()
    follow(best, model, [3.0, 2.0, 2.5])
    writer = backup.Backup(tmp_path, best)
    writer.set_model(model)
    writer.on_epoch_end(2)
    other, again = Stopping("val_nats", 3, True), small_model()
    assert backup.restore(tmp_path, again, other) == 3
    assert (other.score, other.step, other.waited) == (2.0, 2, 1)
    assert other.arrays().keys() == best.arrays().keys()
    for key, value in best.arrays().items():
        np.testing.assert_array_equal(other.arrays()[key], value)
    np.testing.assert_array_equal(again.weights[0], np.full(2, 3, np.float32))
    assert other.load(again) == 2
    np.testing.assert_array_equal(again.weights[0], np.full(2, 2, np.float32))
    # A run that asks for it later begins to follow then.
    plain = backup.Backup(tmp_path / "plain")
    plain.set_model(model)
    plain.on_epoch_end(2)
    other = Stopping("val_nats", 3, True)
    backup.restore(tmp_path / "plain", small_model(), other)
    assert (other.step, other.waited, other.load(again)) == (0, 0, None)
    assert other.describe(3, 3, "digits", "nats") == {}


@pytest.mark.parametrize(
    ("train", "validation", "expected"),
    [
        ([6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6], True),
        ([9, 5, 6, 4, 1, 2, 3], [9, 2, 1, 3, 6, 4, 5], True),  # In any order among three.
        ([6, 5, 4, 3, 2, 4], [1, 2, 3, 4, 5, 6], False),  # Training is back.
        ([6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 3, 6], False),  # Validation is back.
        ([6, 5, 4, 3, 2, 1], [4, 4, 4, 4, 4, 4], False),
        ([5, 4, 3, 2, 1], [2, 3, 4, 5, 6], False),
        ([6, 5, 4, 3, 2, 1], [1, 2, 3, 4, float("nan"), 6], False),
    ],
)
def test_scores_part_ways(train, validation, expected):
    assert part_ways(list(zip(train, validation, strict=True))) == expected


def test_it_is_said_once(caplog):
    lines = [{"nats": 10 - i, "val_nats": 10 + i} for i in range(9)]
    for known in (0, 4):
        caplog.clear()
        warning = PartingWarning("nats", lines[:known])
        for line in lines[known:]:
            warning.on_epoch_end(0, line)
        (record,) = caplog.records
        said = record.getMessage()
        assert "in 6 reports, training went from 10.0000 to 5.0000 and validation from 10" in said
        assert "\n" not in said
    caplog.clear()
    for known, new in (([], [{"nats": 1.0}] * 5), (lines[:6], lines[6:])):
        warning = PartingWarning("nats", known)
        for line in new:
            warning.on_epoch_end(0, line)
    assert not caplog.records


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_report_scores_the_averages_and_leaves_what_is_trained(replicas, two_replicas):
    x = np.random.default_rng(0).normal(3.0, 1.0, [64, 2]).astype("float32")
    strategy = two_replicas if replicas == 2 else tf.distribute.get_strategy()
    weights, scores = [], []
    for watched in (False, True):
        with strategy.scope():
            model = tfflows.FlowModel(tfflows.distributions.trainable_normal([2]), units="nats")
            model.compile(keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5))
        history = model.fit(
            x,
            validation_data=(x,),
            batch_size=16,
            epochs=2,
            verbose=0,
            shuffle=False,
            callbacks=[stopping.AveragedScores()] if watched else [],
        )
        weights.append([v.numpy() for v in model.weights])
        scores.append(history.history["val_nats"])
    # What `fit` ends with are the averages, which were scored last.
    expected = model.evaluate(x, batch_size=16, verbose=0, return_dict=True)["nats"]
    assert scores[1][-1] == pytest.approx(expected, rel=1e-6)
    assert scores[0][-1] != pytest.approx(expected, rel=1e-3)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
