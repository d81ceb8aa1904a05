"""Alters the files of a preset at random and loads it: an error that names the file, or a model.

    python -m tests.zoo.fuzz_presets --cases=3000 --seed=0

Prints a line before each case, so that of a crash or a hang one knows the case; the exit code is 1
if an error is not the one that a user understands. Three kinds of cases, in turns: config.json,
metadata.json, and the weights, with the SHA-256 in metadata.json made that of the altered file, as
somebody who wants to do harm would.
"""

import argparse
import collections
import contextlib
import json
import math
import pathlib
import random
import shutil
import sys
import tempfile
import time

import h5py
import numpy as np

import zoo
from zoo import registry
from zoo.storage import files, presets

VALUES = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2.5,
        10**6,
        10**12,
        -(10**30),
        10**400,
        1e308,
        math.inf,
        math.nan,
    ),
    *(
        "",
        "conv1x1",
        "x" * 10**5,
        "../../etc/passwd",
        "__import__('os').system('true')",
        "\x00\ud800",
    ),
    *([], {}, [[]], [1], [1, 1], [4] * 1000, [10**6, 10**6], [4, [4]], ["4"], [None], {"a": 1}),
    *({"class_name": "__lambda__", "config": "x"}, [[0] * 100] * 100, [0.5, 2], [-1, 4], [True]),
]
SMALL = {"image_shape": (4, 4, 1), "num_levels": 16, "steps": (1, 1), "widths": (4, 4)}
METADATA = {"summary": "A test.", "licence": "Apache-2.0", "paper": "-", "steps": 1}


def make_preset(path):
    """Writes a small preset, without a card."""
    arguments = {**registry.find("glow.digits").arguments, **SMALL}
    model = zoo.create("glow.digits", discrete=True, **SMALL)
    metric = {"name": "-", "value": 1.0, "definition": "-", "data": "-", "command": "-"}
    metadata = {**METADATA, "metric": metric, "training_seconds": 1.0, "machine": "-"}
    metadata |= {"parameters": 1, "command": "-", "versions": {}}
    zoo.save(path, model, "glow.digits", arguments, metadata)


def alter_bytes(content, rng):
    """Flips, sets, inserts or cuts off bytes."""
    content = bytearray(content)
    if rng.random() < 0.2:
        return bytes(content[: rng.randrange(len(content))])
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        # The head and the tables at the start, half of the time: what follows is mostly numbers.
        place = rng.randrange(min(len(content), rng.choice([100, 5000, len(content)])))
        content[place] = rng.choice(
            [0, 255, rng.randrange(256), content[place] ^ 1 << rng.randrange(8)]
        )
    if rng.random() < 0.1:
        place = rng.randrange(len(content))
        content[place:place] = rng.randbytes(rng.randrange(1, 100))
    return bytes(content)


def alter_json(path, rng):
    """Changes, adds or removes an entry, or bytes."""
    if rng.random() < 0.25:
        path.write_bytes(alter_bytes(path.read_bytes(), rng))
        return
    content = json.loads(path.read_text())
    place = content
    if "arguments" in content and rng.random() < 0.8:
        place = content["arguments"]
    for _ in range(rng.choice([1, 1, 2])):
        name = rng.choice([*place, "strange"]) if place else "strange"
        if rng.random() < 0.2:
            place.pop(name, None)
        else:
            place[name] = rng.choice(VALUES)
    path.write_text(json.dumps(content))


def alter_hdf5(path, rng):
    """Changes what the file says that it has."""
    with h5py.File(path, "r+") as file:
        group = file["vars"]
        name = rng.choice(sorted(group))
        value = group[name][()]
        kind = rng.randrange(12)
        if kind < 11:
            del group[name]
        if kind == 0:
            group[name] = h5py.ExternalLink("/etc/hostname", "/x")
        elif kind == 1:
            group[name] = h5py.SoftLink(f"/vars/{min(group)}")
        elif kind == 2:
            group[name] = h5py.SoftLink(f"/vars/{name}")
        elif kind == 3:
            group.create_dataset(name, value.shape, "f4", external=[("/etc/passwd", 0, 10**6)])
        elif kind == 4:
            layout = h5py.VirtualLayout(value.shape or (1,), "f4")
            layout[...] = h5py.VirtualSource("/etc/passwd", "x", value.shape or (1,))
            group.create_virtual_dataset(name, layout)
        elif kind == 5:
            group.create_dataset(
                name, [rng.choice([10**6, 10**9, 2**62])] * rng.randint(1, 3), "f4"
            )
        elif kind == 6:
            group.create_dataset(
                name, data=np.broadcast_to(value, (1000, *value.shape)), compression="gzip"
            )
        elif kind == 7:
            group.create_dataset(
                name, data=value.astype(rng.choice(["f8", "f2", "i8", "u1", "c8", "S3"]))
            )
        elif kind == 8:
            group.create_dataset(name, data=["text"] * 3, dtype=h5py.string_dtype())
        elif kind == 9:
            group.create_group(name)["loop"] = group
        elif kind == 10:
            group["other" if rng.random() < 0.5 else name + "/x"] = value
        elif kind == 11:
            for number in range(rng.choice([1, 1000])):
                group[f"strange{number}"] = 0.0


def alter(folder, number, rng):
    """Alters one file of a preset; returns its name."""
    name = ("config.json", presets.WEIGHTS, "metadata.json")[number % 3]
    if name != presets.WEIGHTS:
        alter_json(folder / name, rng)
        return name
    path = folder / name
    if rng.random() < 0.3:
        # What HDF5 does not write, it need not read.
        with contextlib.suppress(OSError, RuntimeError, TypeError, ValueError, MemoryError):
            alter_hdf5(path, rng)
    else:
        path.write_bytes(alter_bytes(path.read_bytes(), rng))
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps({**metadata, "sha256": files.sha256(path)}))
    return name


def main():
    """Runs the cases; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    root = pathlib.Path(tempfile.mkdtemp(prefix="fuzz."))
    make_preset(root / "whole")
    results, slowest = collections.Counter(), 0.0
    for number in range(args.cases):
        rng = random.Random(1_000_003 * args.seed + number)
        folder = root / "altered"
        shutil.copytree(root / "whole", folder)
        name = alter(folder, number, rng)
        print(f"case {number} of seed {args.seed}: {name}", flush=True)
        start = time.monotonic()
        try:
            zoo.load(str(folder))
            results[name, "loaded"] += 1
        except ValueError as error:
            if str(folder) not in str(error) or len(str(error)) > 3000:
                print(f"no clear error: {str(error)[:3000]}")
                return 1
            results[name, "refused"] += 1
        slowest = max(slowest, time.monotonic() - start)
        shutil.rmtree(folder)
    zoo.load(str(root / "whole"))  # What was refused left nothing behind in this process.
    shutil.rmtree(root)
    for (name, result), count in sorted(results.items()):
        print(f"{name} altered, {result}: {count}")
    print(f"the slowest took {slowest:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
