"""From files on the disk to batches; load.py is the one way in."""
