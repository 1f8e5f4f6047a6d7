"""The pictures of the sample set, drawn from nothing: a reef with six kinds of animals."""
