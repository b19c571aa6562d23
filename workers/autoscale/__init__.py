"""How many workers there should be: the decision, what it is taken from, and who acts on it."""
