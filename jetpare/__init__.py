"""Build two Jetson images, time every stage, and compare them honestly."""

__version__ = "0.1.0"
