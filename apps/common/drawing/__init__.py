"""The embedded sample sets: drawn once, then cached."""
