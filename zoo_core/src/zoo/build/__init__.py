"""create(): from a reference to a model with its weights."""
