"""The drawn pictures of the sample set: a reef with six kinds of animals."""
