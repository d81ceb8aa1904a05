"""The data of a run: none to validate on, and few to train on."""

import dataclasses

import numpy as np

import zoo
from trainers.runs import training
from trainers.runs.run import Run


def test_without_validation(caplog):
    entry = zoo.find("glow.digits")
    assert training.validation_data(Run(entry, entry.recipe, num_validation=0), Replicas()) == {}
    assert "reports have no score" in caplog.text


def test_fewer_images_than_a_batch_are_said(tmp_path, caplog):
    np.savez(tmp_path / "one.npz", train=np.ones([1, 8, 8], np.uint8))
    entry = zoo.find("glow.digits")
    entry = dataclasses.replace(entry, arguments={**entry.arguments, "num_levels": 256})
    recipe = dataclasses.replace(entry.recipe, dataset=str(tmp_path / "one.npz"))
    assert training.open_data(Run(entry, recipe)).num_examples == 1
    assert "one.npz has 1 to train on, fewer than --batch_size=" in caplog.text


class Replicas:
    num_replicas_in_sync = 1
