"""What runs where a model is timed: stdlib Python 3.8 and one runtime, in a file of its own there.

Nothing here imports the rest of protege, which has use of it all the same.
"""
