"""A trained network as a file, and the runtimes that compute it."""
