"""The heart of skipdit: policies, the run that holds their state, and the stack that carries both into a model."""
