"""The networks, what they start from, and the detector that predicts."""
