"""How requests come in and answers go out: HTTP, gRPC, limits of connections, and who may ask."""
