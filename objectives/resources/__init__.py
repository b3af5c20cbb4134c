"""Parameters, memory and energy."""
