"""The networks, their pretrained weights, the face finder, and the tagger that predicts."""
