"""Weights are read in a process of their own, and are what they seem."""

import h5py
import numpy as np
import pytest

from tests.zoo.strange_presets import refused, sign
from zoo.storage import presets, read_weights


def replace(name, make):
    """Returns a function that replaces an array of a weights file."""

    def change(path):
        with h5py.File(path, "r+") as file:
            value = file["vars"][name][()]
            del file["vars"][name]
            make(file["vars"], name, value)

    return change


def external_data(group, name, value):
    group.create_dataset(name, value.shape, "f4", external=[("/etc/passwd", 0, 1000)])


def virtual(group, name, value):
    layout = h5py.VirtualLayout(value.shape, "f4")
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", value.shape)
    group.create_virtual_dataset(name, layout)


def put(value):
    return lambda group, name, old: group.__setitem__(name, value)


def dataset(shape=None, **kwargs):
    return lambda group, name, old: group.create_dataset(name, shape or old.shape, **kwargs)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (put(h5py.ExternalLink("/etc/hostname", "/x")), "as ExternalLink"),
        (put(h5py.SoftLink("/vars")), "as SoftLink"),
        (external_data, "in another file, compressed, or of type"),
        (virtual, "in another file, compressed, or of type"),
        (dataset(compression="gzip"), "in another file, compressed, or of type"),
        (dataset([2**60], dtype="f4"), r"of shape \(1152921504606846976,\), 4611686018427387904 "),
        (dataset([2**40, 2**40], dtype="u1"), r"of shape \(1099511627776, 1099511627776\)"),
        (dataset([4], dtype=h5py.string_dtype()), "or of type object"),
        (put(["a", "b"]), "or of type object"),
        (lambda group, name, old: group.create_group(name), "as Group"),
        (put(np.zeros([3, 3])), "The weights are those of another model"),
        (lambda group, name, old: None, "The weights are those of another model"),
    ],
)
def test_weights_are_what_they_seem(preset, make, match):
    name = sorted(read_weights.read_weights(preset / presets.WEIGHTS))[0]
    replace(name, make)(preset / presets.WEIGHTS)
    refused(preset, "is damaged or was altered")
    sign(preset)
    refused(preset, match)


def test_what_is_no_hdf5_file(preset):
    for content in (b"", b"text", (preset / presets.WEIGHTS).read_bytes()[:5000]):
        (preset / presets.WEIGHTS).write_bytes(content)
        sign(preset)
        refused(preset, r"must be a whole weights file of a preset. Received: OSError")


@pytest.mark.parametrize(
    ("script", "match"),
    [
        ("kill -SEGV $$", "reading it ended with SIGSEGV"),
        ("exec sleep 60", "reading it took more than 1 s"),
        ("ulimit -t 1; while :; do :; done", "reading it ended with SIG(KILL|XCPU)"),
        ("exit 3", "it can't be read"),
    ],
)
def test_a_crash_or_a_hang_while_weights_are_read_is_an_error(preset, monkeypatch, script, match):
    program = preset / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(read_weights.sys, "executable", str(program))
    monkeypatch.setattr(read_weights, "_SECONDS", 1)
    monkeypatch.setattr(read_weights, "_WAIT", 1 if "sleep" in script else 60)
    refused(preset, match)


def test_weights_are_read_as_they_were_written(whole):
    arrays = read_weights.read_weights(whole / presets.WEIGHTS)
    with h5py.File(whole / presets.WEIGHTS) as file:
        assert set(arrays) == set(file["vars"])
        for name, value in arrays.items():
            np.testing.assert_array_equal(value, file["vars"][name][()])
            assert value.dtype == np.float32
