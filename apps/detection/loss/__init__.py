"""What training compares: assignment of anchors to boxes, and the losses."""
