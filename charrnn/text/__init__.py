"""Text: where it comes from, its vocabulary, its ids on disk, and the streams that training reads."""
