"""Orchestration: from a sweep file to a folder of results."""
