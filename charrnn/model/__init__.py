"""The network: CharRNN, its hidden state, and a stepped reference that says what it must compute."""
