"""Evaluation: a network run over photos, what its probabilities are worth, and the page that shows a report."""
