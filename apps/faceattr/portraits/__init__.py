"""The pictures of the sample set, drawn from nothing: portraits of invented people."""
