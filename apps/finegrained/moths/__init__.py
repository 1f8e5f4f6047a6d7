"""The pictures of the sample set, drawn from nothing: moths of one genus on what moths sit on."""
