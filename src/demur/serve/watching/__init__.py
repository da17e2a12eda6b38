"""What is told of what came: drift alarms, the last flagged inputs, metrics, logs and traces."""
