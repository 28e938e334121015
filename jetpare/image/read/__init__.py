"""Take an image's inventory and layers, through the engine, and keep them by digest.

An image is not trusted: what comes back is validated before it is used.

Imports: image, image.collector, engine, config, base.
Start reading: inventory_reader.py.
"""
