"""Measurements of a real server, to be run by hand: ``python -m bench.<name>``, in a checkout."""
