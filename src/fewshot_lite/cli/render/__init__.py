"""Printing of results to the terminal."""
