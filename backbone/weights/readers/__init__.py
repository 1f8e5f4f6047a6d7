"""One small reader for each format of published weights."""
