"""The drawn pictures of the sample set: portraits of invented people."""
