"""Pretrained networks that metrics look through, one a file: plain modules, their weights fetched and hash-checked."""
