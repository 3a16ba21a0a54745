"""Judge a folder of images, or a model that draws them, against a reference: shards, statistics, scores."""
