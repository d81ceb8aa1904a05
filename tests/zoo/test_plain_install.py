"""What `pip install tfflows` brings is enough to load a model and use it in Python."""

import pathlib
import subprocess
import sys

from trainers import program

ROOT = pathlib.Path(__file__).parents[2]
# Imported by TensorFlow, TFP or Keras where they are installed, and not by us.
CODE = """
import sys
{missing}
import keras, tensorflow, tensorflow_probability
before = set(sys.modules)
import tfflows
import zoo

packages = dict.fromkeys(name.partition(".")[0] for name in sys.modules if name not in before)
print(sorted(packages.keys() - sys.stdlib_module_names))
model = zoo.create("rq_nsf.two_moons", pretrained=True)
print(model.log_prob(model.sample(2, seed=1)).shape)
"""


def test_tfflows_and_zoo_import_nothing_beside_tensorflow_and_need_no_more():
    missing = "\n".join(f"sys.modules[{name!r}] = None" for name in program.NEEDED)
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(missing=missing)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["['tfflows', 'zoo']", "(2,)"], done.stderr
