"""Shows that two builds of GDAL are the same to whoever uses them, or says where they differ.

usage: compare_gdal.py --one TREE --other TREE [--output FILE]     where TREE holds usr/local/bin/gdalinfo

Compared are: the files; of each program and library the name, what it needs and the dynamic symbols that it exports,
with their versions; the drivers and what each says of itself; and a workload over raster and vector drivers, of which
every command's output and every file that it wrote must be the same to the byte.
The report is JSON: what was compared, and `differences`. The exit code is 1 where there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import elf

WORK = Path(tempfile.gettempdir()) / "gdal-workload"  # one place for both: paths are written into results
STEP_SECONDS = 120
WIDTH, HEIGHT = 240, 180
# Vague linkage: copies of what a header defines, which the compiler makes where it did not inline it. Any object that
# needs one has its own, so which are left says how it was optimised, and nothing about what the library offers.
VAGUE = frozenset("WVuw")

RASTER = """
gdal_translate -q raw.vrt a.tif -co COMPRESS=DEFLATE -co TILED=YES -co PREDICTOR=2
gdal_translate -q raw.vrt lzw.tif -co COMPRESS=LZW -co INTERLEAVE=BAND
gdal_translate -q raw.vrt packbits.tif -co COMPRESS=PACKBITS -co BIGTIFF=YES
gdal_translate -q raw.vrt float.tif -ot Float32 -scale 0 255 -1 1 -co COMPRESS=DEFLATE -co PREDICTOR=3
gdal_translate -q raw.vrt complex.tif -ot CFloat64
gdal_translate -q raw.vrt nbits.tif -ot UInt16 -co NBITS=12
gdal_translate -q -of PNG raw.vrt a.png
gdal_translate -q -of JPEG -co QUALITY=85 raw.vrt a.jpg
gdal_translate -q -co COMPRESS=JPEG -co PHOTOMETRIC=YCBCR -co TILED=YES raw.vrt jpeg.tif
gdal_translate -q -of COG -co COMPRESS=DEFLATE -co BLOCKSIZE=128 raw.vrt cog.tif
gdal_translate -q -of VRT a.tif a.vrt
gdal_translate -q -b 1 -outsize 50% 50% -r bilinear a.tif gray.tif
gdal_translate -q -b 2 -outsize 71 53 -r near a.tif near.tif
gdal_translate -q -b 2 -outsize 71 53 -r average a.tif average.tif
gdal_translate -q -b 2 -outsize 71 53 -r cubic a.tif cubic.tif
gdal_translate -q -b 2 -outsize 371 253 -r cubicspline a.tif cubicspline.tif
gdal_translate -q -b 2 -outsize 371 253 -r lanczos a.tif lanczos.tif
gdal_translate -q -b 2 -outsize 71 53 -r mode a.tif mode.tif
gdal_translate -q -b 2 -outsize 71 53 -r gauss a.tif gauss.tif
gdal_translate -q -projwin 510000 4640000 520000 4632000 -a_nodata 7 -mo KEY=VALUE a.tif window.tif
gdalwarp -q -t_srs EPSG:3857 a.tif w-near.tif
gdalwarp -q -t_srs EPSG:4326 -r bilinear -dstalpha a.tif w-bilinear.tif
gdalwarp -q -t_srs EPSG:3035 -r cubic -et 0 a.tif w-cubic.tif
gdalwarp -q -t_srs EPSG:3857 -r cubicspline -wo NUM_THREADS=2 a.tif w-cubicspline.tif
gdalwarp -q -t_srs EPSG:3857 -r lanczos -ot Float32 float.tif w-lanczos.tif
gdalwarp -q -t_srs EPSG:32632 -r average -tr 200 200 a.tif w-average.tif
gdalwarp -q -t_srs EPSG:32632 -r mode -tr 200 200 a.tif w-mode.tif
gdalwarp -q -t_srs EPSG:32632 -r med -tr 200 200 a.tif w-med.tif
gdalwarp -q -t_srs EPSG:32632 -r q1 -tr 200 200 a.tif w-q1.tif
gdalwarp -q -t_srs EPSG:32632 -r sum -tr 200 200 a.tif w-sum.tif
gdalwarp -q -t_srs EPSG:32632 -r rms -tr 200 200 a.tif w-rms.tif
gdalwarp -q -t_srs +proj=ortho+lat_0=40+lon_0=10 -order 2 -of VRT a.tif w.vrt
gdalwarp -q -s_srs EPSG:32633 -tps -to METHOD=GCP_TPS gcp.vrt w-tps.tif
gdaladdo -q -r cubic lzw.tif 2 4
gdaladdo -q -ro -r average a.png 2
gdaladdo -q -r mode --config COMPRESS_OVERVIEW DEFLATE a.jpg 2
gdaldem hillshade -q -b 1 float.tif hillshade.tif -z 1000
gdaldem hillshade -q -multidirectional float.tif multi.tif -z 1000
gdaldem slope -q float.tif slope.tif -s 1000
gdaldem aspect -q -alg ZevenbergenThorne float.tif aspect.tif
gdaldem TRI -q float.tif tri.tif
gdaldem TPI -q float.tif tpi.tif
gdaldem roughness -q float.tif roughness.tif
gdaldem color-relief -q float.tif colours.txt relief.tif -alpha
gdal_viewshed -q -ox 510000 -oy 4640000 -oz 2 -md 5000 float.tif viewshed.tif
gdal_contour -q -a LEVEL -i 0.25 float.tif contour.geojson
gdal_contour -q -p -amin LOW -amax HIGH -fl -0.5 0 0.5 float.tif bands.shp -lco DBF_DATE_LAST_UPDATE=2020-01-01
gdal_create -q -outsize 90 80 -bands 2 -burn 3 -a_srs EPSG:32633 -a_ullr 500000 4650000 509000 4642000 made.tif
gdal_rasterize -q -a NUMBER -l lines lines.geojson made.tif
gdal_rasterize -q -burn 9 -at -l areas areas.geojson -ot Byte -tr 300 300 burnt.tif
gdal_rasterize -q -3d -add -l points points.geojson -ot Float64 -ts 60 50 threed.tif
gdal_grid -q -zfield HEIGHT -a invdist:power=2.5:smoothing=1 -outsize 40 30 -l points points.geojson invdist.tif
gdal_grid -q -zfield HEIGHT -a invdistnn:radius=9000:max_points=5 -outsize 40 30 -l points points.geojson invdistnn.tif
gdal_grid -q -zfield HEIGHT -a linear -outsize 40 30 -l points points.geojson linear.tif
gdal_grid -q -zfield HEIGHT -a nearest -outsize 40 30 -l points points.geojson nearest.tif
gdal_grid -q -zfield HEIGHT -a average:radius1=4000:radius2=3000 -outsize 40 30 -l points points.geojson mean.tif
gdalbuildvrt -q -separate -r bilinear mosaic.vrt a.tif near.tif
gdalbuildvrt -q -resolution highest mosaic2.vrt a.tif window.tif
gdal_translate -q mosaic.vrt mosaic.tif
gdal_translate -q derived.vrt derived.tif
gdal_translate -q mosaic2.vrt mosaic2.tif
gdaltindex -q -f GeoJSON tiles.geojson a.tif window.tif
nearblack -q -nb 2 -near 40 -setmask -of GTiff -o nearblack.tif a.tif
gdalenhance -equalize a.tif enhanced.tif
gdal_footprint -q -of GeoJSON -t_srs EPSG:4326 window.tif footprint.geojson
gdalmdiminfo multi.vrt
gdalmdimtranslate -q -array /values multi.vrt mdim.vrt
gdalinfo -json -stats -hist a.tif
gdalinfo -checksum -mdd all -approx_stats float.tif
gdalinfo -proj4 -listmdd -checksum cog.tif
gdalinfo -checksum w.vrt
gdalinfo -checksum mosaic.vrt
gdalinfo -checksum a.jpg
gdalinfo -checksum a.png
gdalinfo -checksum nbits.tif
gdalinfo -checksum complex.tif
gdalinfo -checksum jpeg.tif
gdallocationinfo -xml -geoloc a.tif 512345 4641234
gdallocationinfo -valonly -wgs84 -r cubic a.tif 15.1 41.9
gdalmanage identify a.tif a.png a.jpg
gdalsrsinfo -o all -V EPSG:32633
gdalsrsinfo -o wkt2_2019 EPSG:9707
gdalsrsinfo -e a.tif
"""
VECTOR = """
ogr2ogr -q points.shp points.geojson -lco DBF_DATE_LAST_UPDATE=2020-01-01
ogr2ogr -q -t_srs EPSG:4326 areas84.shp areas.geojson -lco DBF_DATE_LAST_UPDATE=2020-01-01 -lco ENCODING=UTF-8
ogr2ogr -q -t_srs EPSG:3857 lines.geojsonl lines.geojson -f GeoJSONSeq
ogr2ogr -q -t_srs EPSG:4326 rfc.geojson areas.geojson -lco RFC7946=YES -lco WRITE_BBOX=YES -lco COORDINATE_PRECISION=6
ogr2ogr -q -where NUMBER>10 some.geojson lines.geojson
ogr2ogr -q -spat 505000 4630000 515000 4645000 box.geojson points.geojson
ogr2ogr -q -segmentize 500 segments.geojson lines.geojson
ogr2ogr -q -nlt PROMOTE_TO_MULTI -dim XYZ multi.shp areas.geojson -lco DBF_DATE_LAST_UPDATE=2020-01-01 -lco RESIZE=YES
ogr2ogr -q -nlt CONVERT_TO_LINEAR linear.geojson areas.geojson
ogr2ogr -q -explodecollections parts.geojson areas.geojson
ogr2ogr -q -sql sql.txt grouped.geojson points.shp
ogr2ogr -q -append points.shp points.geojson -fid 3
ogr2ogr -q -f ESRI+Shapefile folder areas.geojson -lco DBF_DATE_LAST_UPDATE=2020-01-01 -lco SPATIAL_INDEX=YES
ogr2ogr -q -gcp 0 0 500000 4650000 -gcp 100 0 510000 4650000 -gcp 0 100 500000 4640000 warped.geojson lines.geojson
ogrinfo -al points.shp
ogrinfo -json -al -features areas.geojson
ogrinfo -so lines.geojson lines
ogrinfo points.shp -sql create-index.txt
ogrinfo points.shp -sql select.txt
ogrinfo points.shp -sql distinct.txt
ogrinfo points.shp -sql functions.txt
ogrinfo points.shp -sql join.txt
ogrinfo points.geojson -where like.txt -al
ogrinfo -al -spat 505000 4630000 515000 4645000 areas84.shp
ogr2ogr -q -f GeoJSON /vsigzip/lines.geojson.gz lines.geojson
ogrinfo -al -so /vsigzip/lines.geojson.gz
ogrtindex tindex.shp areas84.shp points.shp
"""
SQL = {
    "sql.txt": "SELECT COUNT(*) AS N, AVG(HEIGHT) AS H, MIN(HEIGHT), MAX(HEIGHT) FROM points",
    "create-index.txt": "CREATE SPATIAL INDEX ON points",
    "select.txt": "SELECT NAME, HEIGHT * 2 + 1 AS H FROM points WHERE HEIGHT BETWEEN 20 AND 80 ORDER BY HEIGHT DESC",
    "distinct.txt": "SELECT DISTINCT NAME FROM points ORDER BY NAME",
    "functions.txt": "SELECT CONCAT(NAME, '-', CAST(HEIGHT AS CHARACTER(8))) AS C, SUBSTR(NAME, 1, 2) AS S FROM points",
    "join.txt": "SELECT p.NAME, a.NUMBER FROM points p LEFT JOIN 'areas84.shp'.areas84 a ON p.NUMBER = a.NUMBER",
    "like.txt": "NAME ILIKE 'P%' AND (HEIGHT > 50 OR NUMBER IN (1, 2, 3)) AND NOT NUMBER IS NULL",
}


# --- what the workload works on: made here, so that it needs no download and is the same everywhere


def inputs(folder: Path) -> None:
    """A picture of three bands, and points, lines and areas on the same place (UTM zone 33)."""
    (folder / "raw.bin").write_bytes(bytes(picture()))
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band + 1}" subClass="VRTRawRasterBand">'
        f'<SourceFilename relativetoVRT="1">raw.bin</SourceFilename>'
        f"<ImageOffset>{band * WIDTH * HEIGHT}</ImageOffset><PixelOffset>1</PixelOffset>"
        f"<LineOffset>{WIDTH}</LineOffset></VRTRasterBand>"
        for band in range(3)
    )
    size = f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}">'
    place = "<SRS>EPSG:32633</SRS><GeoTransform>500000, 100, 0, 4650000, 0, -100</GeoTransform>"
    (folder / "raw.vrt").write_text(f"{size}{place}{bands}</VRTDataset>")
    gcps = "".join(
        f'<GCP Id="{x}-{y}" Pixel="{x}" Line="{y}" X="{500000 + 100 * x + y * y / 9}" Y="{4650000 - 100 * y + x}"/>'
        for x in (0, 80, 160, 240)
        for y in (0, 90, 180)
    )
    (folder / "gcp.vrt").write_text(f'{size}<GCPList Projection="EPSG:32633">{gcps}</GCPList>{bands}</VRTDataset>')
    file = '<SourceFilename relativeToVRT="1">a.tif</SourceFilename>'
    pair = "".join(f"<SimpleSource>{file}<SourceBand>{band}</SourceBand></SimpleSource>" for band in (1, 2))
    derived = "".join(
        f'<VRTRasterBand dataType="Float64" band="{number}" subClass="VRTDerivedRasterBand"><PixelFunctionType>{name}'
        f"</PixelFunctionType>{pair}</VRTRasterBand>"
        for number, name in enumerate(("sum", "mul", "diff", "min", "max", "div"), start=1)
    )
    (folder / "derived.vrt").write_text(f"{size}{place}{derived}</VRTDataset>")
    (folder / "multi.vrt").write_text(
        '<VRTDataset><Group name="/"><Dimension name="y" size="3"/><Dimension name="x" size="4"/><Array name="values">'
        '<DataType>Float64</DataType><DimensionRef ref="y"/><DimensionRef ref="x"/><InlineValues>'
        + " ".join(str(number * number / 3) for number in range(12))
        + "</InlineValues></Array></Group></VRTDataset>"
    )
    (folder / "colours.txt").write_text("-1 0 0 128\n0 250 250 200\n1 120 10 10\nnv 0 0 0 0\n")
    for name, features in (("points", points()), ("lines", lines()), ("areas", areas())):
        collection = {
            "type": "FeatureCollection",
            "name": name,
            "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
            "features": list(features),
        }
        (folder / f"{name}.geojson").write_text(json.dumps(collection))


def picture() -> Iterator[int]:
    """Waves, a ramp, and noise."""
    noise = 12345
    for band in range(3):
        for y in range(HEIGHT):
            for x in range(WIDTH):
                noise = (noise * 1103515245 + 12345) & 0x7FFFFFFF
                wave = 60 * math.sin(x / (9 + band)) * math.cos(y / 13)
                yield max(0, min(255, round(128 + wave + (x - y) / 5 + (noise >> 16) % 17)))


def feature(number: int, kind: str, coordinates: object) -> dict[str, object]:
    """A GeoJSON feature with a few attributes."""
    properties = {
        "NAME": f"P{number % 7}é",
        "NUMBER": number,
        "HEIGHT": (number * 37 % 101) + 0.25,
        "WHEN": f"2020-01-{number % 28 + 1:02}T12:00:00Z",
    }
    return {"type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": coordinates}}


def spot(number: int) -> list[float]:
    """A place in the picture, the same for the same number."""
    return [500000 + number * 7919 % 24000, 4632000 + number * 104729 % 18000]


def points() -> Iterator[dict[str, object]]:
    """Points with a height."""
    for number in range(60):
        yield feature(number, "Point", [*spot(number), number * 37 % 101])


def lines() -> Iterator[dict[str, object]]:
    """Lines of five points."""
    for number in range(20):
        yield feature(number, "LineString", [spot(number * 5 + step) for step in range(5)])


def areas() -> Iterator[dict[str, object]]:
    """Two polygons each, one with a hole."""
    for number in range(12):
        x, y = spot(number)
        ring = [[x, y], [x + 2000, y], [x + 2000, y + 1500], [x, y + 1500], [x, y]]
        hole = [[x + 500, y + 500], [x + 500, y + 900], [x + 900, y + 900], [x + 900, y + 500], [x + 500, y + 500]]
        yield feature(number, "MultiPolygon", [[ring, hole], [[[a + 3000, b] for a, b in ring]]])


# --- one build


def environment(tree: Path) -> dict[str, str]:
    """Of the commands: this tree's library and data, no settings of the user."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "PROJ_DATA", "PROJ_LIB") if name in os.environ}
    data = tree / "usr/local/share/gdal"
    return {**keep, "LC_ALL": "C", "LD_LIBRARY_PATH": str(tree / "usr/local/lib"), "GDAL_DATA": str(data)}


def said(tree: Path, *words: str) -> tuple[int, str]:
    """Exit code and output of one of the tree's programs, without the tree's own path in it."""
    done = subprocess.run(
        [tree / "usr/local/bin" / words[0], *words[1:]],
        cwd=WORK, env=environment(tree), capture_output=True, check=False, timeout=STEP_SECONDS,
    )  # fmt: skip
    text = (done.stdout + done.stderr).decode(errors="replace")
    return done.returncode, text.replace(str(tree), "")


def digest(data: bytes) -> str:
    """A short checksum."""
    return hashlib.sha256(data).hexdigest()[:16]


def workload(tree: Path) -> dict[str, str]:
    """For each command what it said, and for each file that there is in the end its digest. Raises where one fails."""
    found, failures = {}, []
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    inputs(WORK)
    for line in [*RASTER.strip().splitlines(), *VECTOR.strip().splitlines()]:
        words = [SQL.get(word, word.replace("+", " ") if word.startswith("ESRI") else word) for word in line.split()]
        words = [re.sub(r"(?<=\w)\+(?=[a-z])", " +", word) if word.startswith("+proj") else word for word in words]
        code, text = said(tree, *words)
        found[line] = f"{code} {digest(text.encode())}"
        if code:
            failures.append(f"{tree}: {line}\n{text}")
    if failures:
        raise SystemExit("".join(failures))
    for path in sorted(WORK.rglob("*")):
        if path.is_file():
            found[f"file {path.relative_to(WORK)}"] = digest(path.read_bytes())
    shutil.rmtree(WORK)
    return found


def drivers(tree: Path) -> dict[str, str]:
    """What each driver says of itself: its names, what it can do, its options."""
    WORK.mkdir(exist_ok=True)
    found = {}
    for program in ("gdalinfo", "ogrinfo", "gdalmdiminfo"):
        _, text = said(tree, program, "--formats")
        found[f"{program} --formats"] = text
        for name in re.findall(r"^  (\S.*?) -(?:raster|vector|multidimensional)", text, re.MULTILINE):
            found[f"{program} --format {name}"] = said(tree, program, "--format", name)[1]
    return found


def binaries(tree: Path) -> dict[str, dict[str, object]]:
    """Name, needed libraries and exported symbols of each program and library; links are told as such."""
    found: dict[str, dict[str, object]] = {}
    for path in files(tree):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            found[name] = {"link": str(path.readlink())}
        elif elf.is_elf(path):
            headers = tool("objdump", "-p", path)
            found[name] = {
                "soname": re.findall(r"SONAME +(\S+)", headers),
                "needed": re.findall(r"NEEDED +(\S+)", headers),
                "paths": re.findall(r"(?:RPATH|RUNPATH) +(\S+)", headers),
                "exported": symbols(path, "--defined-only"),
                "wanted": symbols(path, "--undefined-only"),
            }
        else:
            found[name] = {"content": digest(path.read_bytes())}
    return found


def files(tree: Path) -> list[Path]:
    """All files and links below *tree*."""
    return sorted(path for path in tree.rglob("*") if path.is_symlink() or path.is_file())


def symbols(path: Path, which: str) -> dict[str, str]:
    """The dynamic symbols by name and version, each with the letter that nm has for its kind."""
    rows = (line.split() for line in tool("nm", "-D", "--with-symbol-versions", which, path).splitlines())
    return {row[-1]: row[-2] for row in rows if len(row) > 1}


def tool(name: str, *words: object) -> str:
    """What one of the binutils says: this system's, or where it only compiles for another one, that one's."""
    there = shutil.which(name) or next((str(path) for path in Path("/usr/bin").glob(f"*-linux-gnu-{name}")), name)
    command = [there, *(str(word) for word in words)]
    environ = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environ).stdout


# --- two builds


def differing(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Keys of which only one has a value, or both another one."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def firm(kinds: Mapping[str, str]) -> dict[str, str]:
    """The symbols without those of vague linkage."""
    return {name: kind for name, kind in kinds.items() if kind not in VAGUE}


def compare_binaries(one: Mapping[str, dict[str, object]], other: Mapping[str, dict[str, object]]) -> Iterator[str]:
    """A line for each difference between the programs and libraries of two trees."""
    for name in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(name, {}), other.get(name, {})
        for key in sorted(mine.keys() | theirs.keys()):
            a, b = mine.get(key), theirs.get(key)
            if isinstance(a, dict) and isinstance(b, dict):
                if key == "wanted":
                    continue
                yield from (f"{name}: {key} {symbol}" for symbol in differing(firm(a), firm(b)))
            elif a != b:
                yield f"{name}: {key}: {a} and {b}"


def vague(one: Mapping[str, dict[str, object]], other: Mapping[str, dict[str, object]]) -> dict[str, list[str]]:
    """Exported symbols of vague linkage that only one of two libraries has, by file: told, and no difference."""
    found = {}
    for name in sorted(name for name in one.keys() & other.keys() if one[name].get("soname")):
        a, b = one[name].get("exported"), other[name].get("exported")
        if isinstance(a, dict) and isinstance(b, dict):
            found[name] = [symbol for symbol in differing(a, b) if {a.get(symbol), b.get(symbol)} <= {*VAGUE, None}]
    return {name: names for name, names in found.items() if names}


def main(argv: Sequence[str]) -> int:
    """Compare two trees; 1 where they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", type=Path, required=True)
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args(argv)
    trees = (arguments.one, arguments.other)
    first, second = (binaries(tree) for tree in trees)
    told, done = [[make(tree) for tree in trees] for make in (drivers, workload)]
    differences = list(compare_binaries(first, second))
    differences += [f"drivers: {key}" for key in differing(*told)]
    differences += [f"workload: {key}" for key in differing(*done)]
    exported = sum(len(entry.get("exported", ())) for entry in first.values())  # type: ignore[arg-type]
    commands = len([key for key in done[0] if not key.startswith("file ")])
    report = {
        "files": len(first),
        "exported_symbols": exported,
        "driver_descriptions": len(told[0]),
        "commands": commands,
        "results": len(done[0]) - commands,
        "vague_symbols_of_one_only": vague(first, second),
        "differences": differences,
    }
    text = json.dumps(report, indent=1)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    print(text)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
