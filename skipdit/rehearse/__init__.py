"""What policies would do on a model, step by step and block by block: rehearsed, told as figures, drawn."""
