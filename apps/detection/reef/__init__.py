"""The pictures of the sample set, drawn from nothing: a reef with eight kinds of animals."""
