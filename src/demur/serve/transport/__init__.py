"""How requests come in and answers go out: HTTP, gRPC, connections and who may ask."""
