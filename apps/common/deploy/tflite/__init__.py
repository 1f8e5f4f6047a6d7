"""TFLite files, for phones and small boards, written over the schema inside their runtime, LiteRT."""
