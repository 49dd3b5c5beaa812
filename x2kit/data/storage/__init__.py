"""Paths, remote stores, URL policy, caches, compressed files."""
