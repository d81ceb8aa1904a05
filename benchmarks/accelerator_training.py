"""What `benchmarks.accelerator` writes for a training with JAX, and reads back as a preset.

1x1 convolutions are trained as P L U, whose step has no QR decomposition, and read back as the
matrices that they are.
"""

import dataclasses
import json
import shlex

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

import tfflows
import zoo
from benchmarks import accelerator_bundle, accelerator_jax
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


def write(args):
    """Writes program, variables, images, and what TensorFlow makes of the first batch."""
    entry = registry.find(args.model)
    train, validation = read_images(entry, args.num_validation)
    distribution = build(args.model, "plu")
    model = tfflows.FlowModel(distribution)
    model.initialize(train[:256])
    x = train[: args.batch_size]
    writer = accelerator_bundle.Writer(
        args.folder,
        model=args.model,
        networks="float32",
        parameters=model.count_params(),
        num_dims=distribution.event_shape.num_elements(),
        recipe=dataclasses.asdict(entry.recipe),
        num_train=len(train),
    )
    writer.name("x", x)
    writer.name("seed", [0, 0])
    evaluate = accelerator_bundle.add_loss(writer, model, x, [0])
    if args.expected:
        writer.expect(evaluate())
    size = writer.close()
    np.save(args.folder / "validation.npy", validation)
    # In parts, each of which may travel by itself: the training takes those that are there.
    for number, part in enumerate(np.array_split(train, args.files)):
        np.save(args.folder / f"train{number}.npy", part)
    print(f"{args.folder}: {size:.1f} MB without the images")


def read(args):
    """Makes a preset of trained variables, as `trainers.train` leaves one."""
    about = json.loads((args.folder / accelerator_jax.ABOUT).read_text())
    entry = registry.find(about["model"])
    with np.load(args.folder / "trained.npz") as file:
        trained = dict(file)
    source, target = build(entry.name, "plu"), entry.build()
    assign(source, target, about["programs"][0]["paths"], trained)
    training = json.loads(str(trained["training"]))
    folder = f"runs/{args.folder.name}"
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
                f"--batch_size={training['batch_size']} --folder={folder}",
                training["command"],
                f"python -m benchmarks.accelerator read --folder={folder} "
                f"--workdir={shlex.quote(str(args.workdir))}" + " --half" * args.half,
            ]
        ),
        "versions": environment.versions() | {"jax": training["jax"]},
        "licence": "Apache-2.0",
        "paper": entry.paper,
        "pictures": {"Samples": "samples.png", "Training curve": "training_curve.png"},
    }
    preset = args.workdir / "preset"
    zoo.save(preset, target, entry.name, entry.arguments, metadata, half=args.half)
    pictures.sampler(target, 0)(preset / "samples.png", least_size=256)
    pictures.save_curve(preset / "training_curve.png", training["curve"])
    recipe = about["recipe"] | {"batch_size": training["batch_size"], "steps": metadata["steps"]}
    run = {"model": entry.name, "arguments": dict(entry.arguments), "seed": 0, "recipe": recipe}
    files.write_json(args.workdir / CONFIG, run | {"command": metadata["command"]})
    print(f"Next: python -m trainers.evaluate --workdir={shlex.quote(str(args.workdir))}")


def assign(source, target, paths, trained):
    """Gives `target` the trained variables, which are those of `source`."""
    variables = named_variables(source)
    for index, path in enumerate(paths):
        if path in variables:  # Others are no variables.
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
