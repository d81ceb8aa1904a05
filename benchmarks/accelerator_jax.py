"""Runs the programs of `benchmarks.accelerator` with JAX; see there. Needs no TensorFlow.

    python benchmarks/accelerator_jax.py check --folder=runs/program
    python benchmarks/accelerator_jax.py train --folder=runs/program --seconds=600

`check` compares loss and gradients with those of TensorFlow. `train` holds the images on the device
and takes the steps in a loop there: Adam or Adamax, a warm-up, a norm clip, a rate that is constant
and then falls linearly to 0 with the time that is spent, a moving average of the weights. It writes
`trained.npz` every minute and goes on from it, with the time that is left, if it is started again.
"""

import argparse
import glob
import gzip
import importlib
import inspect
import json
import os
import pathlib
import shlex
import sys
import time

import numpy as np

# Of an environment of its own, see benchmarks/requirements-accelerator.txt.
jax, jnp, export, mlir, lib, ir, stablehlo = map(
    importlib.import_module,
    (
        "jax",
        "jax.numpy",
        "jax.export",
        "jax._src.interpreters.mlir",
        "jax._src.lib",
        "jaxlib.mlir.ir",
        "jaxlib.mlir.dialects.stablehlo",
    ),
)

CHUNK = 50  # Steps between two looks of the host.


def load_program(path):
    """Returns a program of XLA as a function that `jax.jit` may contain: arrays -> tuple."""
    with gzip.open(path) as file:
        computation = lib.xla_client.XlaComputation(file.read())
    shapes = computation.program_shape()
    with mlir.make_ir_context():
        text = lib.xla_client._xla.mlir.xla_computation_to_mlir_module(computation)
        module = ir.Module.parse(text)
        program = stablehlo.serialize_portable_artifact(module, stablehlo.get_minimum_version())

    def avals(found):
        return tuple(jax.core.ShapedArray(s.dimensions(), s.numpy_dtype()) for s in found)

    ins, outs = avals(shapes.parameter_shapes()), avals(shapes.result_shape().tuple_shapes())
    backend = jax.default_backend()
    fields = {
        "fun_name": "loss_and_gradients",
        "in_avals": ins,
        "out_avals": outs,
        "in_tree": jax.tree.structure((tuple(range(len(ins))), {})),
        "out_tree": jax.tree.structure(tuple(range(len(outs)))),
        "in_shardings_hlo": (None,) * len(ins),
        "out_shardings_hlo": (None,) * len(outs),
        "_in_named_shardings": (None,) * len(ins),
        "_out_named_shardings": (None,) * len(outs),
        "nr_devices": 1,
        "platforms": ("cuda" if backend == "gpu" else backend,),
        "ordered_effects": (),
        "unordered_effects": (),
        "disabled_safety_checks": (),
        "mlir_module_serialized": bytes(program),
        "calling_convention_version": export.maximum_supported_calling_convention_version,
        "module_kept_var_idx": tuple(range(len(ins))),
        "uses_global_constants": True,
    }
    names = inspect.signature(export.Exported).parameters
    return export.Exported(**{name: fields.get(name) for name in names}).call


class Program:
    """Loss and gradients, and what was written beside them."""

    def __init__(self, folder):
        self.call = load_program(folder / "program.hlo.gz")
        self.about = json.loads((folder / "program.json").read_text())
        self.start = np.load(folder / "start.npz")
        self.batch_size = len(self.start["x"])
        self.variables = [self.start[f"variable{i}"] for i in range(len(self.about["paths"]))]
        # Where the gradients' variables are among all.
        found = {g: i for i, g in enumerate(self.about["gradients"]) if g is not None}
        self.trained = [found[g] for g in range(len(found))]

    def loss_and_gradients(self, x, seed, variables):
        """Returns the mean of -log p(x) in nats, and its gradients."""
        loss, *gradients = self.call(x, seed, *variables)
        return loss, gradients

    def bits_per_dim(self, loss):
        """Converts nats."""
        return float(loss) / self.about["num_dims"] / np.log(2)


def check(program, args):
    """Compares with TensorFlow; returns whether both agree to `--tolerance`."""
    begun = time.time()
    loss, gradients = jax.jit(program.loss_and_gradients)(
        program.start["x"], np.zeros(2, np.int32), program.variables
    )
    expected = [np.float64(program.start[f"gradient{i}"]) for i in range(len(gradients))]
    off = sum(np.sum((np.float64(g) - e) ** 2) for g, e in zip(gradients, expected, strict=True))
    off = np.sqrt(off / sum(np.sum(e**2) for e in expected))
    relative = abs(float(loss) / float(program.start["loss"]) - 1)
    print(
        f"{device()}: loss {float(loss):.4f}, off by {relative:.1e}; gradient off by {off:.1e} of "
        f"its norm; first call {time.time() - begun:.1f} s"
    )
    return max(off, relative) <= args.tolerance


def device():
    """Returns the name of the device."""
    return jax.devices()[0].device_kind


def make_step(program, args):
    """Returns one step of training for `lax.scan`: `(state, (number, rate, rows), images)`."""

    def step(state, numbered, images):
        number, rate, rows = numbered
        variables, mean, square, average = map(list, state)
        mirrored = jax.random.bernoulli(
            jax.random.fold_in(jax.random.key(args.seed), number), 0.5, [len(rows), 1, 1, 1]
        )
        x = images[rows]
        if program.about["recipe"]["flip"]:
            x = jnp.where(mirrored, x[:, :, ::-1], x)
        seed = jnp.stack([jnp.int32(args.seed), number])
        loss, gradients = program.loss_and_gradients(x, seed, variables)
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in gradients))
        finite = jnp.isfinite(norm)
        time = number.astype(jnp.float32) + 1
        rate = jnp.where(finite, rate * jnp.minimum(1.0, time / args.warmup), 0.0)
        momentum = jnp.minimum(args.average, (1 + time) / (10 + time))
        for gradient, i in zip(gradients, program.trained, strict=True):
            gradient = jnp.nan_to_num(gradient) * jnp.minimum(1.0, args.clip / norm)
            mean[i] = 0.9 * mean[i] + 0.1 * gradient
            if args.optimizer == "adam":
                square[i] = args.beta_2 * square[i] + (1 - args.beta_2) * gradient**2
                scale = jnp.sqrt(square[i] / (1 - args.beta_2**time))
            else:
                square[i] = scale = jnp.maximum(args.beta_2 * square[i], jnp.abs(gradient))
            variables[i] -= rate * mean[i] / (1 - 0.9**time) / (scale + 1e-8)
            average[i] = momentum * average[i] + (1 - momentum) * variables[i]
        return (variables, mean, square, average), (loss, finite)

    return step


class Images:
    """The files of training images that are there, on the device; more may come meanwhile."""

    def __init__(self, program, folder, seed):
        self._pattern, self._count = str(folder / "train*.npy"), program.about["num_train"]
        self._batch_size, self._random = program.batch_size, np.random.default_rng(seed)
        self._files, self._order, self.array = [], np.zeros(0, np.int32), None
        while not self.look():
            time.sleep(1)

    def look(self):
        """Takes files that have come; returns whether there are any."""
        files = sorted(glob.glob(self._pattern))
        if files != self._files:
            self.array, self._found = pad([np.load(file) for file in files], self._count)
            self._files, self._order = files, self._order[:0]
            print(f"{self._found} images to train on", flush=True)
        return bool(files)

    def rows(self):
        """Returns the images of the next steps, each pass in a new order."""
        size = CHUNK * self._batch_size
        while len(self._order) < size:
            more = self._random.permutation(self._found).astype(np.int32)
            self._order = np.concatenate([self._order, more])
        rows, self._order = self._order[:size], self._order[size:]
        return rows.reshape(CHUNK, -1)


def pad(parts, count):
    """Returns images on the device, `count` with zeros at the end, and how many there are."""
    images = np.concatenate(parts)
    padding = np.zeros([count - len(images), *images.shape[1:]], images.dtype)
    return jax.device_put(np.concatenate([images, padding])), len(images)


def train(program, args):
    """Trains until the time is spent."""
    images = Images(program, args.folder, args.seed)
    validation, num_validation = pad(
        [np.load(args.folder / "validation.npy")], program.about["num_train"]
    )
    state, number, spent = start_or_resume(program, args.folder / "trained.npz")
    step = make_step(program, args)

    def steps(state, first, rates, rows, images):
        numbers = first + jnp.arange(CHUNK)
        return jax.lax.scan(lambda s, n: step(s, n, images), state, (numbers, rates, rows))

    begun = time.time()
    nothing = np.zeros(CHUNK, np.float32)
    arguments = state, jnp.int32(0), nothing, images.rows(), images.array
    compiled = jax.jit(steps).lower(*arguments).compile()
    print(f"{device()}: compiled in {time.time() - begun:.1f} s", flush=True)

    def score(variables):  # Steps with a rate of 0, and noise that no training draws.
        rows = np.arange(CHUNK * program.batch_size, dtype=np.int32) % num_validation
        rows = rows.reshape(CHUNK, -1)
        _, (losses, _) = compiled(
            (variables, *state[1:]), jnp.int32(2**30), nothing, rows, validation
        )
        return program.bits_per_dim(jnp.mean(losses))

    done, first = spent, number
    begun = shown = saved = time.time()
    while True:
        part = spent / args.seconds
        rate = args.rate * min(1.0, max(0.0, (1 - part) / (1 - args.flat)))
        images.look()
        rates, rows = np.full(CHUNK, rate, np.float32), images.rows()
        state, (losses, finite) = compiled(state, jnp.int32(number), rates, rows, images.array)
        loss = program.bits_per_dim(jnp.mean(losses))  # Waits for the device.
        number, now = number + CHUNK, time.time()
        spent = done + now - begun
        if now - shown > 10 or spent >= args.seconds:
            speed = program.batch_size * (number - first) / (now - begun)
            left_out = int(np.sum(~np.asarray(finite)))
            print(
                f"{spent:6.0f} s, step {number}: {loss:.4f} bits/dim, {speed:.0f} images/s"
                + (f", {left_out} steps left out, not finite" if left_out else ""),
                flush=True,
            )
            shown = now
        if now - saved > 60 or spent >= args.seconds:
            training = {
                "loss": loss,
                "seconds": round(spent),
                "batch_size": program.batch_size,
                "device": f"one {device()}",
                "jax": jax.__version__,
                "command": command(args),
            }
            save(args.folder / "trained.npz", state, number, training)
            print(f"       averaged: validation {score(state[3]):.4f} bits/dim", flush=True)
            saved = time.time()
        if spent >= args.seconds:
            return


def command(args):
    """Returns the command line, with the folder's name as in the docs."""
    words = [word for word in sys.argv[1:] if not word.startswith("--folder")]
    return shlex.join(
        ["python", "benchmarks/accelerator_jax.py", *words, f"--folder=runs/{args.folder.name}"]
    )


def start_or_resume(program, path):
    """Returns the state of a training, the number of steps and seconds that it took."""
    count = len(program.variables)
    if not path.exists():
        start = [jnp.asarray(v) for v in program.variables]
        zeros = [jnp.zeros_like(v) for v in start]
        return (start, zeros, zeros, start), 0, 0.0
    with np.load(path) as file:
        parts = ("current", "mean", "square", "variable")
        state = tuple([jnp.asarray(file[f"{part}{i}"]) for i in range(count)] for part in parts)
        return state, int(file["steps"]), json.loads(str(file["training"]))["seconds"]


def save(path, state, number, training):
    """Writes the state, the averaged variables under the name of a program's variables."""
    arrays = {}
    for part, values in zip(("current", "mean", "square", "variable"), state, strict=True):
        arrays |= {f"{part}{i}": np.asarray(value) for i, value in enumerate(values)}
    unfinished = path.with_suffix(".unfinished.npz")
    np.savez(unfinished, steps=number, training=json.dumps(training), **arrays)
    os.replace(unfinished, path)


def main():
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["check", "train"])
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of the program")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of check, relative")
    parser.add_argument("--seconds", type=float, default=300.0, help="to train, in all")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--flat", type=float, default=0.4, help="part before the rate falls")
    parser.add_argument("--optimizer", choices=["adam", "adamax"], default="adam")
    parser.add_argument("--beta_2", type=float, default=0.99)
    parser.add_argument("--clip", type=float, default=1000.0, help="norm of the gradient")
    parser.add_argument("--average", type=float, default=0.999, help="momentum")
    parser.add_argument("--warmup", type=float, default=300.0, help="steps")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    program = Program(args.folder)
    if args.action == "check":
        return int(not check(program, args))
    return train(program, args)


if __name__ == "__main__":
    sys.exit(main())
