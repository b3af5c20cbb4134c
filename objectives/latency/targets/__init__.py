"""The places where latency counts: this machine, over SSH, a phone, figures from elsewhere."""
