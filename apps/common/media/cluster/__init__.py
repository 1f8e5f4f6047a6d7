"""Predictions for large numbers of photos: computed by Ray Data, written as parts of a Parquet table."""
