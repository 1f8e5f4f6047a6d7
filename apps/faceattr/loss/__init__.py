"""The loss of a student from its teacher and the labels."""
