"""Benchmarks, one command each; benchmarks/README.md says what their columns mean.

python -m benchmarks.exponential [--output=results.json] [--quick]
python -m benchmarks.training_step [--output=results.json] [--quick]
"""
