"""``charrnn swarm``: many small trainings over a grid of settings, and what they say together.

A *hive* holds a *swarm* for every combination of the varied settings; a swarm's *bees* differ in their seed only, and
the same seeds fly in every swarm, so that they can be compared in pairs.

space    what is varied: values, ranges, groups that change together
plan     the combinations, their configs, the bees
texts    a text on its way to another process or machine
bee      one bee: an ordinary run, made in a folder that goes away, its files as the result
work     units of work on any executor, each done exactly once
local    the processes of this machine; speed: how many, with how many threads
cluster  a Dask cluster
hive     the folder of a hive: what is kept, what is there already
results  medians, quartiles, shares diverged
colony   what is to be trained: combinations with their texts, and seeds
arrange  where and how
search, trials, memory   combinations chosen by Optuna
study    all of that together
"""
