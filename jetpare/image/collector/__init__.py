"""Read a file tree: the tables of an Inventory, as plain rows.

This folder is zipped and sent into a container of the image, where the image's own Python runs it. So: Python 3.8, the
standard library and pyelftools only, and nothing else of jetpare.

Imports: nothing of jetpare.
Start reading: main.py, then tree.py.
"""
