"""Compare models in pairs and estimate their latency with its error."""
