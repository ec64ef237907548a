"""``charrnn doctor``: measures what a training is like from the inside, and says why it does not learn.

history     what the run wrote down while it trained
probes      extra passes over copies of its state, each with numbers as its result
trials      short trainings of its config, each with one thing changed
evidence    all of that together
rules       pure functions of the evidence: a finding, good or bad, with the number and the threshold
examination collects the evidence, asks the rules, ranks the answers
"""
