"""Photos, videos and cameras in; pictures, videos and windows out."""
