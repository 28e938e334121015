"""What is in one image: inventory, linkage, ownership, and who needs whom.

The Inventory is the data that everything here reads. collector/ runs inside a container and writes it; read/ starts
the collector, checks its answer and keeps it.

Imports: engine, config, events, base; not board, not records.
Start reading: inventory.py, then read/take.py.
"""
