"""What answers a request over any transport: the models, and the batches that go through them."""
