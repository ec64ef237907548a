"""``charrnn swarm``: many small trainings over a grid of settings, and what they say together.

A *hive* holds a *swarm* for every combination of the varied settings; a swarm's *bees* differ in their seed only, and
the same seeds fly in every swarm, so that they can be compared in pairs.
"""
