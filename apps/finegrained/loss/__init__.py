"""What a student compares with its teacher."""
