"""COCO metrics, the analysis of errors, and the report."""
