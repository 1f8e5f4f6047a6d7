"""The drawn pictures of the sample set: moths of one genus on various surfaces."""
