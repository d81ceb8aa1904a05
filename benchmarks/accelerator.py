"""Trains a model of the zoo on a device that JAX has and TensorFlow has not.

    python -m benchmarks.accelerator write --model=glow.digits --batch_size=64 --folder=runs/program
    python benchmarks/accelerator_jax.py check --folder=runs/program
    python benchmarks/accelerator_jax.py train --folder=runs/program --seconds=60
    python -m benchmarks.accelerator read --folder=runs/program --workdir=runs/digits
    python -m trainers.evaluate --workdir=runs/digits

The first and the third run here. The others need JAX 0.11 and flatbuffers, and nothing of this
project but the folder and the one file: they run wherever the accelerator is. XLA hands out the
loss and its gradients as a program whose parameters are the images, a seed and the variables of the
model; JAX compiles it for its device, and takes the optimiser's steps around it.

1x1 convolutions are trained as P L U, whose step has no QR decomposition, and read back as the
matrices that they are.
"""

import argparse
import dataclasses
import gzip
import json
import pathlib
import shlex

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

import tfflows
import zoo
from tfflows import bijectors
from tfflows.variables import named_variables
from trainers import pictures
from trainers.data import loading
from trainers.runs import environment
from trainers.runs.run import CONFIG
from zoo import registry
from zoo.storage import files


def build(name, parameterization):
    """Returns a model with random weights, its 1x1 convolutions written in some way."""
    entry = registry.find(name)
    changes = {"conv1x1": parameterization} if "conv1x1" in entry.arguments else {}
    return entry.build(**changes)


def read_images(entry, num_validation):
    """Returns the images to train on and to score meanwhile."""
    name, num_bits = entry.recipe.dataset, loading.bits_to_keep(entry.num_levels)
    splits = loading.divide(name, num_validation)
    if splits[1] is None:
        raise ValueError(
            f"`--num_validation` must leave images to score. Received: {num_validation}, of {name}."
        )
    loads = (loading.load(name, split, batch_size=1000, num_bits=num_bits) for split in splits)
    return [np.concatenate(list(tfds.as_numpy(load.dataset))) for load in loads]


def loss_and_gradients(distribution):
    """Returns the function that becomes the program, and the variables of its gradients."""
    variables = list(distribution.trainable_variables)

    @tf.function(jit_compile=True)
    def function(x, seed):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            loss = -tf.reduce_mean(distribution.log_prob(x, seed=seed))
        return loss, *tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    return function, variables


def write(args):
    """Writes program, variables, images, and what TensorFlow makes of the first batch."""
    entry = registry.find(args.model)
    train, validation = read_images(entry, args.num_validation)
    distribution = build(args.model, "plu")
    model = tfflows.FlowModel(distribution)
    model.initialize(train[:256])
    function, trainable = loss_and_gradients(distribution)
    x, seed = tf.constant(train[: args.batch_size]), tf.constant([0, 0])
    program = function.experimental_get_compiler_ir(x, seed)(stage="hlo_serialized")
    captured = function.get_concrete_function(x, seed).captured_inputs
    by_handle = {id(v.handle): v for v in distribution.variables}
    known = [by_handle.get(id(c)) for c in captured]
    values = [c.numpy() if v is None else v.numpy() for c, v in zip(captured, known, strict=True)]
    paths = {id(v.handle): path for path, v in named_variables(distribution).items()}
    order = {id(v.handle): index for index, v in enumerate(trainable)}
    loss, *gradients = function(x, seed) if args.expected else (np.nan,)
    args.folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(args.folder / "program.hlo.gz", "wb") as file:
        file.write(program)
    about = {
        "model": args.model,
        "paths": [paths.get(id(c)) for c in captured],
        "gradients": [order.get(id(c)) for c in captured],
        "num_dims": distribution.event_shape.num_elements(),
        "recipe": dataclasses.asdict(entry.recipe),
        "parameters": model.count_params(),
        "num_train": len(train),
    }
    files.write_json(args.folder / "program.json", about)
    arrays = {f"variable{i}": value for i, value in enumerate(values)}
    expected = {f"gradient{i}": value for i, value in enumerate(gradients)}
    np.savez(args.folder / "start.npz", x=x, loss=loss, **arrays, **expected)
    np.save(args.folder / "validation.npy", validation)
    # In parts, each of which may travel by itself: the training takes those that are there.
    for number, part in enumerate(np.array_split(train, args.parts)):
        np.save(args.folder / f"train{number}.npy", part)
    print(f"{args.folder}: {len(program)} bytes of program, {len(values)} variables")


def read(args):
    """Makes a preset of trained variables, as `trainers.train` leaves one."""
    about = json.loads((args.folder / "program.json").read_text())
    entry = registry.find(about["model"])
    with np.load(args.folder / "trained.npz") as file:
        trained = dict(file)
    source, target = build(entry.name, "plu"), entry.build()
    assign(source, target, about["paths"], trained)
    training = json.loads(str(trained["training"]))
    metadata = {
        "summary": entry.summary,
        "metric": {
            "name": "training bits/dim",
            "value": training["loss"],
            "definition": "-log2 P(x) / D, mean over the last steps",
            "data": f"{entry.recipe.dataset}, {about['num_train']} images of train",
            "command": training["command"],
        },
        "parameters": about["parameters"],
        "steps": int(trained["steps"]),
        "training_seconds": training["seconds"],
        "machine": training["device"],
        "command": " && ".join(
            [
                f"python -m benchmarks.accelerator write --model={entry.name} "
                f"--batch_size={training['batch_size']} --folder=runs/program",
                training["command"],
                "python -m benchmarks.accelerator read --folder=runs/program "
                f"--workdir={shlex.quote(str(args.workdir))}" + " --half" * args.half,
            ]
        ),
        "versions": environment.versions() | {"jax": training["jax"]},
        "licence": "Apache-2.0",
        "paper": entry.paper,
    }
    zoo.save(args.workdir / "preset", target, entry.name, entry.arguments, metadata, half=args.half)
    pictures.sampler(target, 0)(args.workdir / "preset" / "samples.png", least_size=256)
    recipe = about["recipe"] | {"batch_size": training["batch_size"], "steps": metadata["steps"]}
    run = {"model": entry.name, "arguments": dict(entry.arguments), "seed": 0, "recipe": recipe}
    files.write_json(args.workdir / CONFIG, run | {"command": metadata["command"]})
    print(f"Next: python -m trainers.evaluate --workdir={shlex.quote(str(args.workdir))}")


def assign(source, target, paths, trained):
    """Gives `target` the trained variables, which are those of `source`."""
    variables = named_variables(source)
    for index, path in enumerate(paths):
        if path is not None:
            variables[path].assign(trained[f"variable{index}"])
    for path, variable in named_variables(target).items():
        variable.assign(variables[path])
    for plu, dense in zip(*map(convolutions, (source, target)), strict=True):
        if dense.parameters["parameterization"] == "dense":
            weight = dense.parameters["weight"]
            unit_vectors = tf.eye(weight.shape[-1])[:, tf.newaxis, tf.newaxis]
            weight.assign(tf.transpose(plu.forward(unit_vectors)[:, 0, 0]))


def convolutions(distribution):
    """Returns the 1x1 convolutions of a model."""
    return [m for m in distribution.submodules if type(m) is bijectors.InvertibleConv1x1]


def main():
    """Writes a program, or reads back what was trained with it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["write", "read"])
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of the program")
    parser.add_argument("--model", help="name of a model of images, for write")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--num_validation", type=int, default=5000, help="images held out")
    parser.add_argument("--parts", type=int, default=4, help="files of training images")
    parser.add_argument(
        "--expected", action=argparse.BooleanOptionalAction, default=True, help="for check"
    )
    parser.add_argument("--half", action="store_true", help="read writes weights in float16")
    parser.add_argument("--workdir", type=pathlib.Path, help="where read leaves preset/")
    args = parser.parse_args()
    needed = "model" if args.action == "write" else "workdir"
    if getattr(args, needed) is None:
        parser.error(f"--{needed} must be given for {args.action}.")
    {"write": write, "read": read}[args.action](args)


if __name__ == "__main__":
    main()
