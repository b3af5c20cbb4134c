"""Models of another origin that students are compared with."""
