"""Extra passes over copies of a run's state. Nothing here changes the run, and each answer is plain numbers."""
