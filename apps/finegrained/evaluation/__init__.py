"""Metrics by class, calibration, and the report."""
