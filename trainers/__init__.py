"""Command-line programs that train, evaluate and sample the models of the zoo."""

import os
import sys

# TensorFlow turns oneDNN off by itself on CPUs without VNNI, where it is much faster all the same:
# docs/performance.md. Read when TensorFlow is imported, hence here.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

if sys.argv[:1] == ["-m"]:  # While Python looks for the program of `python -m trainers.train`.
    from trainers import program

    program.start()
