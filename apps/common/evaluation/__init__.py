"""Evaluation: a network run over photos, calibration, intervals, comparison of models, and the report's page."""
