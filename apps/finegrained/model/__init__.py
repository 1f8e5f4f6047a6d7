"""The network, the classifier that predicts, and where it looked (CAM)."""
