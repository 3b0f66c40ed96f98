"""workloads.py COWBENCH MERGED JSON reads|all: the workloads of cowbench.py, in its order, and some more.

`reads`: only those that change nothing.
"""
import json, os, sys
from types import SimpleNamespace

program, mount, figures, which = sys.argv[1:]
names = {}
with open(program) as source:
    # all but its last line, which would run every workload
    exec(source.read().rpartition("\nmain()")[0], names)
cowbench = SimpleNamespace(**names)
bench = cowbench.Bench(mount)


def reads():
    many, big = f"{mount}/many", f"{mount}/big/read.bin"
    bench.timed("walk+stat cold", lambda: cowbench.walk_stat(many), cold_first=True)
    bench.timed("walk+stat warm", lambda: cowbench.walk_stat(many))
    bench.timed("stat missing names", bench.missing)
    bench.timed("read small files cold", lambda: cowbench.read_files(many), cold_first=True)
    bench.timed("read small files warm", lambda: cowbench.read_files(many))
    bench.timed("read 128M cold", lambda: cowbench.read_seq(big), cold_first=True)
    bench.timed("read 128M warm", lambda: cowbench.read_seq(big))
    bench.timed("random read 4K x8000", bench.random_read)


def save_files():
    """As editors, package managers and git do: write another file, sync it, rename it."""
    os.makedirs(f"{mount}/saved", exist_ok=True)
    for number in range(300):
        path = f"{mount}/saved/{number}"
        fd = os.open(f"{path}.tmp", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644)
        os.write(fd, b"saved" * 200)
        os.fsync(fd)
        os.close(fd)
        os.rename(f"{path}.tmp", path)


if which == "reads":
    reads()
else:
    bench.run()
    bench.timed("save new files, synced x300", save_files)
    bench.timed("save them again x300", save_files)
with open(figures, "w") as out:
    json.dump(bench.figures, out)
