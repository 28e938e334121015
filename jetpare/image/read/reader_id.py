"""Say which version of the code reads images: a file that another version wrote is made anew."""

from __future__ import annotations

import hashlib
import re
import zlib
from functools import cache
from pathlib import Path

from jetpare.engine import containers, image_store
from jetpare.image import inventory, layers
from jetpare.image.read.in_container import program

KEY = "reader"  # of a kept file, the first of all
HEAD_BYTES = 200  # of a file, which say who wrote it
READER = re.compile(rb'\{\s*"reader"\s*:\s*"(\w+)"')
PARTS = (containers, image_store, inventory, layers)  # what the readers here make their data with


@cache
def reader() -> str:
    """Return what changes when images are read in another way."""
    made = hashlib.sha256(program())
    for path in (*sorted(Path(__file__).parent.glob("*.py")), *(Path(str(part.__file__)) for part in PARTS)):
        made.update(path.read_bytes())
    return made.hexdigest()[:16]


def wrote(data: bytes) -> bool:
    """Say the same of a kept file's compressed *data*, without unpacking all of it; False for what is no archive."""
    try:
        return is_ours(zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(data, HEAD_BYTES))
    except zlib.error:
        return False


def is_ours(content: bytes) -> bool:
    """Return whether this version of the reader wrote what begins with *content*, or nobody says who did."""
    made_by = READER.match(content)
    return made_by is None or made_by[1].decode() == reader()
