"""The run folder: its files, the checkpoint format, the metrics log."""
