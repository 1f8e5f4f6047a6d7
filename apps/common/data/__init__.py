"""Photos, tables and copies on the disk, and what is wrong with them."""
