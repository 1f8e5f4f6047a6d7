"""TFLite files, for phones and small boards, written by the schema classes of their runtime, LiteRT."""
