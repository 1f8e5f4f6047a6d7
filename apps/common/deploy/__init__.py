"""A trained network as a file, and the runtimes that run it."""
