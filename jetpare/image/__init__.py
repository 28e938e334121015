"""What is in one image: inventory, linkage, ownership, and who needs whom.

The Inventory is the data that everything here reads. collector/ runs inside a container and writes it; read/ starts
the collector, checks its answer and keeps it. kept.py keeps what takes long to work out of it, and
ask.py asks for that.

Imports: engine, config, events, base; not board, not records.
Start reading: inventory.py, then read/inventory_reader.py.
"""
