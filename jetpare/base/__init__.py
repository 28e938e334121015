"""Errors, processes, files, units, versions, text, paired measurements: what every other package may use.

Nothing here knows what an image is.

Imports: nothing of jetpare.
Start reading: errors.py.
"""
