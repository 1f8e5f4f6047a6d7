"""The network, the classifier that predicts, and class activation maps (CAM)."""
