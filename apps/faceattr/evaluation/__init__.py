"""Metrics by attribute and subgroup, calibration, and the report."""
