"""What happens inside a model from step to step, one question a file: looked at with hooks, never changed."""
