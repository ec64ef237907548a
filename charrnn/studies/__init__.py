"""Experiments made of trainings: what they measure is what the one step does."""
