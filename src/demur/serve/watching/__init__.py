"""What the server tells its operator: drift alarms, the last flagged inputs, metrics, logs and traces."""
