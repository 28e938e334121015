"""From a plan to finished images: the bake definition, the calls of buildx, the run and its record.

Also what is made before BuildKit starts (bootstrap, download), and what is checked before (doctor, guards).

Imports: project, image, board, engine, records, config, events, base; not audit.
Start reading: pipeline.build, then bake.definition.
"""
