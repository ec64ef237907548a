"""Training: the one step, what feeds it a learning rate, how it is measured, and the loop around it."""
