"""Plan timings, compare models in pairs, and estimate milliseconds with their error."""
