#!/bin/sh
# Compiles GDAL with CMake and Ninja, checks it, works out which packages it needs at run time, and leaves one tree.
# usage: GDAL_VERSION=3.11.5 compile-gdal.sh
# environment:
#   GDAL_BUILD     unity: several sources at a time, where gdal-unity/VERSION.txt beside this script says how; plain: each alone
#   GDAL_CMAKE     further CMake options, NAME=VALUE, separated by white space
#   GDAL_DRIVERS   raster drivers to build beside the ones that are always there; OGR_DRIVERS the same for vectors
#   CROSS          the architecture that is compiled for, where it is not this machine's (cross.sh); its programs are emulated
#   JOBS           compile jobs; empty or 0: the cores that are online, fewer where memory is short
#   SOURCE         folder with CMakeLists.txt, or with one gdal-*.tar.* (/run/jetpare/source)
#   CCACHE_DIR     the compiler cache (/var/cache/ccache)
#   STAGE, REPORT  where the tree and the record go (/opt/stage, /opt/report)
set -euf # no globs: drivers and options are words
: "${GDAL_VERSION:?usage: GDAL_VERSION=3.11.5 compile-gdal.sh}"
source=${SOURCE:-/run/jetpare/source}
stage=${STAGE:-/opt/stage}
report=${REPORT:-/opt/report}
work=/opt/build # the same at every build: the paths are part of what ccache compares
here=$(dirname "$0")
# shellcheck source=scripts/image/cross.sh
. "$here/cross.sh"
export CCACHE_DIR="${CCACHE_DIR:-/var/cache/ccache}"

fail() {
    echo "compile-gdal: $*" >&2
    exit 1
}

# Every version clashes in other places, so a version that nobody looked at is compiled plainly, and says so.
build=${GDAL_BUILD:-plain} why=
case "$build" in
plain) ;;
unity)
    if [ ! -e "$here/gdal-unity/$GDAL_VERSION.txt" ]; then
        build=plain why="scripts/image/gdal-unity has no $GDAL_VERSION.txt: see docs/unity.md"
        echo "compile-gdal: compiled plainly, not in units: $why" >&2
    fi
    ;;
*) fail "GDAL_BUILD is '$build': unity or plain is wanted" ;;
esac

# --- jobs: so many that no compiler is killed. The largest unit takes 1.5 GB at most, a single source 0.7.
cores=$(nproc)
jobs=${JOBS:-0}
if [ "$jobs" -eq 0 ]; then
    [ "$build" = unity ] && each=1500000 || each=700000 # kB
    jobs=$(awk -v cores="$cores" -v each="$each" '$1 == "MemAvailable:" { jobs = int($2 / each) }
        END { print (jobs < 1 ? 1 : (jobs < cores ? jobs : cores)) }' /proc/meminfo)
fi

now() { # milliseconds of a clock that is never set back
    awk '{ printf "%d", $1 * 1000 }' /proc/uptime
}

# --- source: a tree, or one archive (already checked against its checksum by whoever downloaded it)
mkdir -p "$work" "$report" "$stage"
if [ ! -e "$source/CMakeLists.txt" ]; then
    archive=$(find "$source" -maxdepth 1 -name 'gdal-*.tar.*')
    [ -f "$archive" ] || fail "no CMakeLists.txt and not exactly one gdal-*.tar.* in $source"
    source=$work/source
    mkdir -p "$source"
    tar -xf "$archive" -C "$source" --strip-components=1 --no-same-owner
fi

# --- configure: nothing is found by accident. What a base happens to have installed (JetPack's has an older GDAL with all
# its -dev packages) must not change what is built, so external libraries are used only where GDAL_CMAKE names them.
begin=$(now)
set -- -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr/local -DCMAKE_INSTALL_LIBDIR=lib \
    -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
    -DBUILD_TESTING=OFF -DBUILD_PYTHON_BINDINGS=OFF -DBUILD_JAVA_BINDINGS=OFF -DBUILD_CSHARP_BINDINGS=OFF \
    -DGDAL_USE_EXTERNAL_LIBS=OFF -DGDAL_BUILD_OPTIONAL_DRIVERS=OFF -DOGR_BUILD_OPTIONAL_DRIVERS=OFF
for driver in ${GDAL_DRIVERS:-}; do set -- "$@" "-DGDAL_ENABLE_DRIVER_$driver=ON"; done
for driver in ${OGR_DRIVERS:-}; do set -- "$@" "-DOGR_ENABLE_DRIVER_$driver=ON"; done
for option in ${GDAL_CMAKE:-}; do set -- "$@" "-D${option#-D}"; done
if [ -n "${CROSS:-}" ]; then
    # Programs of the target can be run (the kernel hands them to QEMU), so what CMake asks by running gets the true answer.
    set -- "$@" -DCMAKE_SYSTEM_NAME=Linux "-DCMAKE_SYSTEM_PROCESSOR=$machine" -DCMAKE_CROSSCOMPILING_EMULATOR=/usr/bin/env \
        "-DCMAKE_C_COMPILER=$triple-gcc" "-DCMAKE_CXX_COMPILER=$triple-g++"
    export PKG_CONFIG_LIBDIR="/usr/lib/$triple/pkgconfig:/usr/share/pkgconfig"
fi
[ "$build" = plain ] || set -- "$@" "-DCMAKE_PROJECT_INCLUDE=$here/gdal-unity/unity.cmake" \
    "-DJETPARE_UNITS=$here/gdal-unity/$GDAL_VERSION.txt" -DJETPARE_BATCH=16
printf '%s\n' "$@" >"$report/cmake-options.txt"
cmake -S "$source" -B "$work/build" -G Ninja "$@"
cp "$work/build/CMakeCache.txt" "$report/"
! grep -Eq '(-I|-isystem )/usr/include/gdal' "$work/build/build.ninja" ||
    fail "the base's older GDAL headers are on the include path"
configured=$(now)

# --- compile
# ccache's own log of this build alone: its counters are the cache's, and another stage may be using that at the same time
export CCACHE_STATSLOG="$work/ccache.log"
: >"$CCACHE_STATSLOG" # a ccache that knows no such log leaves the counts at zero
ninja -C "$work/build" -j "$jobs"
compiled=$(now)
awk '!/^#/ { count[$1]++ } END { for (name in count) printf "%s\t%d\n", name, count[name] }' "$CCACHE_STATSLOG" |
    sort >"$report/ccache.tsv"
cp "$work/build/.ninja_log" "$report/ninja_log"
DESTDIR="$stage" cmake --install "$work/build" --strip >/dev/null
# what only a compiler reads
rm -rf "$stage/usr/local/include" "$stage/usr/local/lib/cmake" "$stage/usr/local/lib/pkgconfig" \
    "$stage/usr/local/share/bash-completion" "$stage/usr/local/share/man" "$stage/usr/local/bin/gdal-config"
# In the image ours must be found before the base's, on every architecture: in the loader's own order /usr/local/lib comes
# after /usr/lib/aarch64-linux-gnu, but before /usr/lib/x86_64-linux-gnu.
mkdir -p "$stage/etc/ld.so.conf.d" "$stage/usr/share/jetpare"
echo /usr/local/lib >"$stage/etc/ld.so.conf.d/00-jetpare-gdal.conf"
# what of the image is GDAL's
{
    echo "# GDAL $GDAL_VERSION"
    (cd "$stage" && find usr/local ! -type d) | sed 's|^|/|' | LC_ALL=C sort
} >"$stage/usr/share/jetpare/gdal-files.txt"
installed=$(now)

# --- check: the version, and a GeoTIFF written, compressed again and read
export LD_LIBRARY_PATH="$stage/usr/local/lib" GDAL_DATA="$stage/usr/local/share/gdal"
bin=$stage/usr/local/bin
version=$("$bin/gdalinfo" --version)
case "$version" in
"GDAL $GDAL_VERSION"[,\ ]*) ;;
*) fail "gdalinfo says '$version', GDAL_VERSION is $GDAL_VERSION" ;;
esac
readelf=${CROSS:+$triple-}readelf
loader=$("$readelf" -l "$bin/gdalinfo" | sed -n 's/.*program interpreter: \(.*\)]/\1/p') # the target's, which ldd is not
"$loader" --list "$bin/gdalinfo" | grep -q "$stage/usr/local/lib/libgdal" || fail "gdalinfo is not linked with the libgdal just built"
"$bin/gdal_create" -q -of GTiff -ot Byte -outsize 64 48 -bands 1 -burn 7 -a_srs EPSG:32633 -a_ullr 0 480 640 0 "$work/a.tif"
"$bin/gdal_translate" -q -co COMPRESS=DEFLATE -co TILED=YES "$work/a.tif" "$work/b.tif"
sums=$("$bin/gdalinfo" -checksum "$work/a.tif" | grep Checksum=)
[ "$sums" = "$("$bin/gdalinfo" -checksum "$work/b.tif" | grep Checksum=)" ] || fail "a GeoTIFF did not come back as written"
"$bin/gdalinfo" "$work/b.tif" | grep -q '"EPSG",32633' || fail "the GeoTIFF lost its coordinate system (PROJ's database?)"
"$bin/gdalinfo" --formats >"$report/formats.txt"

# --- run-time packages: whose file is each library that a file of ours names. Not in a pipe: `fail` would only end that.
owner() { # dpkg knows a file under /lib or under /usr/lib, whatever the link between the two
    real=$(readlink -f "$1")
    for name in "$1" "$real" "/usr$1" "${real#/usr}"; do
        package=$(dpkg-query -S "$name" 2>/dev/null | sed -n '1s/[:,].*//p')
        [ -z "$package" ] || break
    done
    [ -n "$package" ] || fail "no package owns $1"
    echo "$package"
}
find "$stage/usr/local" -type f \( -perm -u+x -o -name '*.so*' \) >"$work/files"
while read -r file; do
    needed=$("$readelf" -d "$file" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p') || continue
    [ -n "$needed" ] || continue
    "$loader" --list "$file" >"$work/ldd" || true # what is missing is told below
    for name in $needed; do
        path=$(awk -v name="$name" '$1 == name { print $3; exit } $1 ~ "/" name "$" { print $1; exit }' "$work/ldd")
        case "$path" in
        "" | not) fail "$file needs $name, which is not to be found" ;;
        "$stage"/* | /usr/local/cuda*) ;;
        *) echo "$path" ;;
        esac
    done
done <"$work/files" >"$work/needed"
sort -u "$work/needed" >"$work/libraries"
while read -r path; do
    owner "$path"
done <"$work/libraries" >"$work/packages"
sort -u "$work/packages" >"$stage/usr/share/jetpare/gdal-packages.txt"
cp "$stage/usr/share/jetpare/gdal-packages.txt" "$report/packages.txt"

# --- record
stat_of() { awk -v name="$1" '$1 == name { sum += $2 } END { printf "%d", sum }' "$report/ccache.tsv"; }
hits=$(($(stat_of direct_cache_hit) + $(stat_of preprocessed_cache_hit)))
misses=$(stat_of cache_miss)
steps=$(grep -vc '^#' "$report/ninja_log")
cat >"$report/gdal.json" <<END
{"schema": 1, "version": "$GDAL_VERSION", "build": "$build", "why": "$why", "steps": $steps, "cores": $cores, "jobs": $jobs,
 "ccache": {"hits": $hits, "misses": $misses},
 "cross": "${CROSS:-}", "compiler": "$("${CROSS:+$triple-}g++" -dumpfullversion -dumpversion)", "cmake": "$(cmake --version | sed -n '1s/.* //p')", "ninja": "$(ninja --version)",
 "milliseconds": {"configure": $((configured - begin)), "compile": $((compiled - configured)), "install": $((installed - compiled))},
 "tree_bytes": $(du -sb "$stage" | cut -f1)}
END
cat "$report/gdal.json"
rm -rf "$work"
