"""Runs that end in a moment."""

import contextlib
import shutil

import numpy as np
import pytest
from absl.testing import flagsaver

import tfflows
import zoo
from trainers import train
from trainers.runs import callbacks

TINY = {
    "image_shape": (8, 8, 1),
    "num_levels": 17,
    "steps": (1, 1),
    "widths": (4, 4),
    "network": "conv_net",
    "exponentials": 0,
    "mixing": "conv1x1",
}

RECIPE = zoo.Recipe(dataset="digits", batch_size=16, steps=4, warmup_steps=2)


def run(main=train.main, **values):
    """Runs a binary with flags, which are then as they were."""
    with flagsaver.flagsaver(shards=1, **values):
        main(["binary"])


class KilledError(Exception):
    """Stands for a signal."""


@contextlib.contextmanager
def killed_at_epoch(epoch):
    """Ends training when an epoch begins."""

    def fail(self, number, logs=None):
        if number == epoch:
            raise KilledError
        original(self, number, logs)

    original = callbacks.Throughput.on_epoch_begin
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(callbacks.Throughput, "on_epoch_begin", fail)
        yield


def run_and_copy(workdir, epoch=1, **values):
    """Trains in a folder, and copies it when an epoch begins: what a signal would leave."""

    def copy(self, number, logs=None):
        if number == epoch:
            shutil.copytree(workdir, killed(workdir))
        original(self, number, logs)

    original = callbacks.Throughput.on_epoch_begin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.Throughput, "on_epoch_begin", copy)
        run(workdir=str(workdir), **values)


def killed(workdir):
    """The folder that `run_and_copy` copied."""
    return workdir.with_name(f"{workdir.name}_killed")


def trained_weights(workdir):
    """The weights of a run's preset, by name."""
    model = zoo.create(str(workdir / "preset"), pretrained=True)
    return {name: v.numpy() for name, v in tfflows.named_variables(model).items()}


def check_same_weights(workdir, other):
    """Compares the weights of two runs, bit by bit."""
    expected, found = trained_weights(other), trained_weights(workdir)
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
