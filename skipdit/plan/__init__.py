"""Plans tuned to a budget: run a model on calibration labels, search which steps to compute, write it down as JSON."""
