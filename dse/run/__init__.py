"""From a sweep file to a folder of results: names resolved, points scored in parts, files written."""
