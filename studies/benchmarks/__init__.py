"""The benchmarks behind the numbers in README and docs; each module prints a table."""
