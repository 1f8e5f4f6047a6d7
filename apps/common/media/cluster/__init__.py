"""Predictions for more photos than one process can do: Ray Data computes, parts of a Parquet table are the results."""
