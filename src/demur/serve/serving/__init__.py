"""What is done with a request, whatever it came by: the models, and the batches that go through them."""
