"""Boxes, anchors, decoding and suppression; no network, no files."""
