"""Strategies: replicas and worker processes take the steps of one device."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.small_presets import small_arguments
from tests.trainers.data.image_sets import save_mixed
from tfflows import FlowModel
from trainers.runs import callbacks, strategies
from trainers.runs.run import Devices

ROOT = pathlib.Path(__file__).parents[3]
STEPS = 8
TINY = (
    "--model=glow.digits",
    "--set=steps=[1,1]",
    "--set=widths=[4,4]",
    "--recipe=flip=false",
    "--batch_size=24",
    "--num_validation=24",
    "--jit=on",
)
LABELS = ["--condition=label"]
TABLE = [
    *("--model=maf.table", "--dataset=sklearn:wine", "--condition_columns=target"),
    *("--set=num_blocks=2", "--set=width=8", "--column_kind=proline=integer"),
    *("--batch_size=24", "--num_validation=16"),
]


def command(workdir, *flags):
    tiny = () if TABLE[0] in flags else TINY
    return [sys.executable, "-m", "trainers.train", *tiny, f"--workdir={workdir}", *flags]


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


def start_workers(count, workdir, *flags):
    """Starts processes that find each other through TF_CONFIG; their output goes to files."""
    workers = [f"localhost:{port}" for port in free_ports(count)]
    found = []
    for index in range(count):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        with open(f"{workdir}.{index}.log", "a") as log:
            found.append(
                subprocess.Popen(
                    command(workdir, "--strategy=multi_worker", *flags),
                    cwd=ROOT,
                    env=os.environ | {"TF_CONFIG": json.dumps(task)},
                    stdout=log,
                    stderr=log,
                )
            )
    return found


def finish(processes, seconds=300):
    """Waits; returns the exit codes."""
    end = time.monotonic() + seconds
    try:
        return [process.wait(max(1, end - time.monotonic())) for process in processes]
    finally:
        for process in processes:
            process.kill()


def losses(workdir):
    lines = callbacks.read_lines(workdir / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return [line.get("bits_per_dim", line.get("nats")) for line in lines]


@pytest.mark.parametrize(
    "strategy, replicas, more",
    [
        ("mirrored", 2, []),
        pytest.param("mirrored", 2, LABELS, marks=pytest.mark.slow),
        pytest.param("mirrored", 2, TABLE, marks=pytest.mark.slow),
        pytest.param("mirrored", 4, [], marks=pytest.mark.slow),
        pytest.param("multi_worker", 2, [], marks=pytest.mark.slow),
        pytest.param("multi_worker", 2, LABELS, marks=pytest.mark.slow),
        pytest.param("multi_worker", 3, [], marks=pytest.mark.slow),
    ],
)
def test_replicas_take_the_steps_of_one_device(strategy, replicas, more, tmp_path):
    every = [f"--steps={STEPS}", "--report_every=1", *more]
    if strategy == "mirrored" and replicas == 2:  # XLA, which takes long to start, has the others.
        every.append("--jit=off")
    one = subprocess.Popen(
        command(tmp_path / "one", *every, f"--shards={replicas}"),
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    if strategy == "mirrored":
        flags = ("--strategy=mirrored", f"--cpu_devices={replicas}", *every)
        several = [subprocess.Popen(command(tmp_path / "several", *flags), cwd=ROOT)]
    else:
        several = start_workers(replicas, tmp_path / "several", *every, "--shards=1")
    assert finish([one, *several]) == [0] * (1 + len(several))
    found, expected = losses(tmp_path / "several"), losses(tmp_path / "one")
    assert found == pytest.approx(expected, rel=1e-5)
    assert len({round(value, 6) for value in expected}) == STEPS
    assert (tmp_path / "several" / "preset").is_dir()


@pytest.fixture
def tuning(tmp_path):
    """Flags of a run on photographs, from a preset, in part frozen, that ends early."""
    for split, count in (("train", 30), ("validation", 12)):
        save_mixed(tmp_path / "mixed" / split, count)
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "mixed" / split / "train").rename(tmp_path / "photos" / split)
    return (
        f"--dataset={tmp_path / 'photos'}",
        *("--image_size=8", "--crop=random", "--num_validation=12", "--batch_size=8"),
        *("--init=convexp_glow.digits", "--freeze=*levels/1/*", "--early_stopping=2"),
        *("--steps=40", "--report_every=2", "--learning_rate=0.3", "--recipe=clip=null"),
        "--ema=0.5",
    )


@pytest.mark.slow
def test_two_replicas_tune_on_photographs_and_end_early_killed_or_not(tuning, tmp_path):
    folders = [tmp_path / name for name in ("one", "whole", "killed")]
    mirrored = ("--strategy=mirrored", "--cpu_devices=2")
    devices = [("--shards=2",), mirrored, mirrored]
    commands = [command(w, *tuning, *d) for w, d in zip(folders, devices, strict=True)]
    last = subprocess.Popen(commands[2], cwd=ROOT)
    end = time.monotonic() + 200
    while not list(folders[2].glob("backup/step_*")):
        assert time.monotonic() < end and last.poll() is None
        time.sleep(0.05)
    last.send_signal(signal.SIGKILL)
    last.wait()
    assert not (folders[2] / "preset").exists()
    resume = [sys.executable, "-m", "trainers.train", f"--workdir={folders[2]}", "--resume"]
    resume += ["--report_every=2"]
    processes = [subprocess.Popen(c, cwd=ROOT) for c in (*commands[:2], resume)]
    assert finish(processes) == [0, 0, 0]
    one, whole, killed = (callbacks.read_lines(w / "metrics.jsonl") for w in folders)
    assert len(whole) < 20
    for line, other in zip(one, whole, strict=False):
        assert line["bits_per_dim"] == pytest.approx(other["bits_per_dim"], rel=1e-4)
    for line, other in zip(killed, whole, strict=True):
        for key in ("step", "bits_per_dim", "val_bits_per_dim"):
            assert line[key] == pytest.approx(other[key], rel=1e-6)
    presets = [json.loads((w / "preset" / "metadata.json").read_text()) for w in folders[1:]]
    for key in ("steps", "stages", "remarks", "preparation", "parameters"):
        assert presets[0][key] == presets[1][key]
    assert presets[0]["steps"] < whole[-1]["step"]
    weights = [zoo.load(w / "preset").variables for w in folders[1:]]
    for one_, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one_, other, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 2], ids=["chief", "worker"])
def test_a_worker_that_dies_ends_all_and_all_resume(killed, tmp_path):
    every = ["--steps=60", "--report_every=5"]
    workdir = tmp_path / "run"
    workers = start_workers(3, workdir, *every, "--shards=1")
    try:
        end = time.monotonic() + 240
        while not list((workdir / "backup").glob("step_*")):
            assert time.monotonic() < end, pathlib.Path(f"{workdir}.0.log").read_text()[-2000:]
            time.sleep(0.1)
    finally:
        workers[killed].send_signal(signal.SIGKILL)
        codes = finish(workers, 240)
    assert all(codes), codes
    for index in {0, 1, 2} - {killed}:
        assert "--resume" in pathlib.Path(f"{workdir}.{index}.log").read_text()
    assert not (workdir / "preset").exists()
    one = subprocess.Popen(command(tmp_path / "one", *every, "--shards=3"), cwd=ROOT)
    resumed = start_workers(3, workdir, *every, "--shards=1", "--resume")
    assert finish([one, *resumed]) == [0] * 4
    expected, found = (
        callbacks.read_lines(w / "metrics.jsonl") for w in (tmp_path / "one", workdir)
    )
    assert [line["step"] for line in found] == list(range(5, 61, 5))
    for line, other in zip(found, expected, strict=True):
        assert line["bits_per_dim"] == pytest.approx(other["bits_per_dim"], rel=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
    ],
)
def test_multi_worker_needs_all_workers(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="needs the environment variable TF_CONFIG"):
        strategies.set_shards(None, 24, (8, 8, 1), Devices("multi_worker"))


def test_batches_that_replicas_cannot_share(monkeypatch):
    with pytest.raises(
        ValueError, match=r"multiple of their number\. Received: a batch size of 24"
    ):
        strategies.set_shards(None, 24, (8, 8, 1), Devices("mirrored", cpu_devices=5))


@pytest.mark.parametrize("loop", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name",
    [
        "convexp_glow.digits",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "glow.digits",
                "balanced.digits",
                "sylvester.digits",
                "residual.digits",
                "coupling.digits",
                "maf.two_moons",
                "rq_nsf.two_moons",
                "gnf_convexp.mog4",
            )
        ),
    ],
)
def test_a_step_is_made_of_what_a_tpu_has(name, loop):
    """XLA translates all of it: static shapes, nothing in float64, no calls of the host."""
    entry = zoo.find(name)
    changes = {} if loop else small_arguments(name)  # Which have nothing that repeats.
    model = FlowModel(entry.build(**changes), units=entry.units, check_finite=False, loop=loop)
    model.compile("adam")
    model.optimizer.build(model.trainable_weights)
    dtype = tf.float32 if entry.num_levels is None else tf.uint8
    x = tf.zeros([8, *model.distribution.event_shape], dtype)
    step = tf.function(model.train_step, jit_compile=True, autograph=False)
    text = step.experimental_get_compiler_ir(x)(stage="hlo")
    assert "ENTRY" in text
    # XLA itself expands decompositions into QR and the like, on every kind of device.
    calls = set(re.findall(r'custom_call_target="(\w+)"', text))
    assert calls <= {"Qr", "ProductOfElementaryHouseholderReflectors"}
    for foreign in ("<=", "f64[", "infeed", "outfeed", "send(", "recv("):
        assert foreign not in re.sub(r"metadata=\{[^}]*\}", "", text), foreign


def test_no_tpu_is_one_line(monkeypatch):
    def connect(tpu):
        raise tf.errors.InvalidArgumentError(
            None, None, f"No TPU {tpu}.\nRegistered devices: [CPU]"
        )

    monkeypatch.setattr(tf.distribute.cluster_resolver.TPUClusterResolver, "connect", connect)
    with pytest.raises(ValueError, match=r"needs a TPU.*--tpu=here.* 'No TPU here\.'\.$"):
        strategies.make(Devices("tpu", tpu="here"))
