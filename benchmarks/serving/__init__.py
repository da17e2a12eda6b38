"""What `benchmarks/serve.py` measures with: guards to serve, servers, clients that know the right answers, faults."""
