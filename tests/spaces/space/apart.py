"""The distance between two members of a space, from its public parameters alone."""

from protege.spaces import Architecture, SearchSpace


def apart(space: SearchSpace, one: Architecture, other: Architecture) -> float:
    """Sum the differences over the knobs: of a size as a share of its range, else 0 or 1."""
    mine, theirs = space.params(one), space.params(other)
    total = 0.0
    for knob in space.knobs:
        a, b = mine[knob.name], theirs[knob.name]
        if isinstance(a, int) and isinstance(b, int):
            total += abs(a - b) / (int(knob.values[-1]) - int(knob.values[0]))
        else:
            total += a != b
    return total
