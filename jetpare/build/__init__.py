"""From a plan to finished images: the bake definition, the calls of buildx, the run and its record.

Also what is made before BuildKit starts (bootstrap, download), and what is checked before (doctor, guards).

Imports: project, image, board, engine, records, config, events, base; not audit.
Start reading: pipeline.build is the order of things, top to bottom. Its parts: journal keeps the record, watch looks at
this host, schedule says what is built in which call, prepare makes what BuildKit does not make, call runs bake,
stage_rows turns that into rows, tagging checks and tags the image. Then bake.definition: what bake gets to read.
"""
