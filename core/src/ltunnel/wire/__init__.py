"""Layouts of everything that crosses the network. Pure functions and frozen values; golden hex pins every byte."""
