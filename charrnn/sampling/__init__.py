"""Sampling: from logits to a choice, and from a model to a stream of characters."""
