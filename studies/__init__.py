"""Ready-to-run studies and benchmarks; plain Python, not installed."""
