# Sourced: executed instructions of a program for one window, by qemu-user and tests/instructions.c. Where neither start nor loading counts:
# the difference between a run of three windows and a run of one.
#   counter DIR                         builds the plugin into DIR
#   count_windows DIR CPU WHAT COMMAND [ARGS]     COMMAND N PLUGIN CPU ARGS runs N windows under qemu-aarch64; prints WHAT and millions a window

counter() { cc -shared -fPIC -O2 -o "$1/plugin.so" tests/instructions.c; }

count_windows() {
    dir=$1 cpu=$2 what=$3 command=$4
    shift 4
    for windows in 1 3; do
        "$command" "$windows" "$dir/plugin.so" "$cpu" "$@" >"$dir/out" 2>"$dir/err" || { cat "$dir/out" "$dir/err" >&2; exit 1; }
        sed -n 's/^instructions: //p' "$dir/err" >"$dir/$windows"
    done
    awk -v what="$what" 'NR == 1 { one = $1 } NR == 2 { printf "%s: %.1f million instructions a window\n", what, ($1 - one) / 2e6 }' "$dir/1" "$dir/3"
}
