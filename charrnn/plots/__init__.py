"""Figures, from the numbers that runs and studies leave behind. No torch here."""
