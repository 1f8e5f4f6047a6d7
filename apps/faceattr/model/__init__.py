"""The networks, what they start from, the face finder, and the tagger that predicts."""
