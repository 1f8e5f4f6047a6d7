"""What every training loop calls: processes, optimisers, progress, the record and the state of a run, sampling."""
