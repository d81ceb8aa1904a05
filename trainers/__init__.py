"""Command-line programs that train, evaluate and sample the models of the zoo."""

import os

# TensorFlow turns oneDNN off by itself on CPUs without VNNI, where it is much faster all the same:
# docs/performance.md. Read when TensorFlow is imported, hence here.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
