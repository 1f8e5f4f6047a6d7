"""What training compares: the student with its teacher and the labels."""
