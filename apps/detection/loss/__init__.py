"""Assignment of anchors to boxes, and the losses."""
