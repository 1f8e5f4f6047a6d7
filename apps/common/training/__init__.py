"""Shared by the training loops: processes, optimisers, progress, the record and the state of a run, sampling."""
