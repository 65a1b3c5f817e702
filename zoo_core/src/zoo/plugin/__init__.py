"""Plugins: found by their metadata, described by a data file, imported only when used."""
