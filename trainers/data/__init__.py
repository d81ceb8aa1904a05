"""Data that the programs train on and score: where they come from, in which batches."""
