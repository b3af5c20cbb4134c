"""Students of other families than their teacher's: their sizes, configurations and weights."""
