"""reads.py COWBENCH MERGED JSON: the workloads of cowbench.py that change nothing, in its order."""
import json, sys
from types import SimpleNamespace

program, mount, figures = sys.argv[1:]
names = {}
with open(program) as source:
    # all but its last line, which would run every workload
    exec(source.read().rpartition("\nmain()")[0], names)
cowbench = SimpleNamespace(**names)

bench = cowbench.Bench(mount)
many, big = f"{mount}/many", f"{mount}/big/read.bin"
bench.timed("walk+stat cold", lambda: cowbench.walk_stat(many), cold_first=True)
bench.timed("walk+stat warm", lambda: cowbench.walk_stat(many))
bench.timed("stat missing names", bench.missing)
bench.timed("read small files cold", lambda: cowbench.read_files(many), cold_first=True)
bench.timed("read small files warm", lambda: cowbench.read_files(many))
bench.timed("read 128M cold", lambda: cowbench.read_seq(big), cold_first=True)
bench.timed("read 128M warm", lambda: cowbench.read_seq(big))
bench.timed("random read 4K x8000", bench.random_read)
with open(figures, "w") as out:
    json.dump(bench.figures, out)
