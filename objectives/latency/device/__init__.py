"""The runner, uploaded to a device as one file; needs Python 3.8 and one runtime only.

Nothing in this package imports the rest of protege.
"""
