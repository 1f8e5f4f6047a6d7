"""The networks, their pretrained weights, and the detector that predicts."""
