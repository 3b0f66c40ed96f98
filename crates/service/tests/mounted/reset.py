"""What a reset does to files that are open, mapped and written: argv is what to try, where the view
is, and the command that talks to its daemon. The layer has `short` (7 bytes), `long` (300000), `empty` and
`dir/same` (100), of 'B' alone; or, for what ends in the middle, a hundred files by numbers.
"""

import mmap
import os
import signal
import subprocess
import sys
import threading
import time

WHAT, ROOT, *ASK = sys.argv[1:]
SIZES = {"short": 7, "long": 300000, "empty": 0, "dir/same": 100}
os.chdir(ROOT)


def reset(*paths):
    subprocess.run([*ASK, "reset", *paths], check=True, stdout=subprocess.DEVNULL)


def content(file):
    return os.pread(file, 1 << 20, 0)


def check(condition, *what):
    if not condition:
        sys.exit(f"{WHAT}: {what}")


def open_all(flags):
    return {name: os.open(name, flags) for name in SIZES}


def fill(file, size):
    """Makes a file the user's, without making it short in between."""
    os.pwrite(file, b"U" * size, 0)
    os.ftruncate(file, size)


def open_files():
    """Open files keep their inodes and show what the layers have, in content and size."""
    for how in (os.O_RDWR, os.O_RDONLY):
        files = open_all(how)
        before = {name: os.stat(name).st_ino for name in SIZES}
        for size in (0, 5, 100, 4096, 5000, 300000, 400001):
            for name in SIZES:
                with open(name, "r+b") as file:
                    fill(file.fileno(), size)
            for file in files.values():
                check(content(file) == b"U" * size, "not written", size)
            reset()
            for name, file in files.items():
                is_open = os.fstat(file)
                check(is_open.st_size == SIZES[name] == os.stat(name).st_size, name, is_open)
                check(content(file) == b"B" * SIZES[name], name, size, content(file)[:80])
                kept = is_open.st_ino == os.stat(name).st_ino == before[name]
                # A file of the same size is what it was; all others are given back in place.
                check(kept and is_open.st_nlink == 1, name, size, is_open, before[name])
        for file in files.values():
            os.close(file)


def paths():
    """One path leaves the others alone."""
    files = open_all(os.O_RDWR)
    for file in files.values():
        fill(file, 20)
    reset("/spfs/short")
    for name, file in files.items():
        expected = b"B" * 7 if name == "short" else b"U" * 20
        check(content(file) == expected, name, content(file))
    reset()
    # What is written now is appended to what the layers have.
    for name, file in files.items():
        os.pwrite(file, b"more", SIZES[name])
        os.fsync(file)
        check(open(name, "rb").read() == b"B" * SIZES[name] + b"more", name)


def mapped():
    """A shared mapping shows what the layers have, and writes to that."""
    file = os.open("long", os.O_RDWR)
    for size in (300000, 500000, 299999):
        os.ftruncate(file, 300000)
        shared = mmap.mmap(file, 299999)
        fill(file, size)
        shared[5:9] = b"USER"
        reset()
        check(shared[:] == b"B" * 299999, "mapping", size, shared[:16], shared[-16:])
        shared[5000:5002] = b"ww"
        shared.flush()
        expected = b"B" * 5000 + b"ww" + b"B" * (300000 - 5002)
        check(open("long", "rb").read() == expected, "file", size)
        shared.close()
        reset()
        check(content(file) == b"B" * 300000, "again", size)


def busy():
    """Writers that never stop: each byte is theirs or the layers', none is from before."""
    size = SIZES["long"]
    file = os.open("long", os.O_RDWR)
    inode = os.fstat(file).st_ino
    shared = mmap.mmap(file, size)
    stop = threading.Event()

    def write(number, put):
        at = number * 7919
        while not stop.is_set():
            at = (at + 104729) % size
            put(at)

    def put_mapped(at):
        # Through the page that is in memory, whatever it holds.
        shared[at] = ord("w")

    puts = [lambda at: os.pwrite(file, b"w", at), lambda at: os.pwrite(file, b"w", at), put_mapped]
    writers = [threading.Thread(target=write, args=one) for one in enumerate(puts)]
    for writer in writers:
        writer.start()
    try:
        for turn in range(30):
            os.pwrite(file, b"U" * (size + (turn % 3) * 5000), 0)
            reset()
            check(os.fstat(file).st_size == size, turn, os.fstat(file))
            check(os.fstat(file).st_ino == inode == os.stat("long").st_ino, turn, "inode")
            found = content(file)
            check(set(found) <= set(b"Bw"), turn, {chr(byte): found.count(byte) for byte in set(found)})
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    os.fsync(file)
    check(set(content(file)) <= set(b"Bw"), "at the end")


def running():
    """What cannot be opened for writing, and what has two names, comes back all the same."""
    for name in SIZES:
        with open(name, "r+b") as file:
            fill(file.fileno(), 11)
    os.link("short", "other")
    os.chmod("long", 0)
    reset()
    for name, size in SIZES.items():
        check(open(name, "rb").read() == b"B" * size, name)
        check(os.stat(name).st_mode & 0o777 == 0o644, name)
    check(not os.path.exists("other"), "other")


MANY = {str(number): 100 + 41 * number for number in range(100)}


def change_many():
    """Makes many files the user's, of other sizes, and keeps them open."""
    files = {name: os.open(name, os.O_RDWR) for name in MANY}
    for name, file in files.items():
        fill(file, 70 * int(name) + 10)
        os.fsync(file)
    return files


def are_reset():
    return sum(os.stat(name).st_size == size for name, size in MANY.items())


def daemon():
    said = subprocess.run([*ASK, "status"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(said.split()[0].removeprefix("pid="))


def helpers_of(parent):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/cmdline", "rb") as line:
                is_child = int(stat.read().rpartition(")")[2].split()[1]) == parent
                if is_child and b"give-back" in line.read():
                    yield int(pid)
        except OSError:
            pass


def kill_when(count, victims):
    """Resets, and kills when so many files are reset."""
    resetting = subprocess.Popen([*ASK, "reset"], stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 60
    while (found := are_reset()) < count and resetting.poll() is None:
        check(time.monotonic() < limit, "nothing was reset", found)
    for pid in victims():
        os.kill(pid, signal.SIGKILL)
    resetting.wait()


def killed_daemon(count):
    files = change_many()
    pid = daemon()
    kill_when(count, lambda: [pid])
    check(len(files) == 100, "they are open until here")


def killed_helper(count):
    """Who loses the help gives the rest new inodes."""
    files = change_many()
    pid = daemon()
    kill_when(count, lambda: helpers_of(pid))
    for name, size in MANY.items():
        check(open(name, "rb").read() == b"B" * size == b"B" * os.stat(name).st_size, name)
        found = set(content(files[name]))
        check(found in ({ord("B")}, {ord("U")}, {ord("B"), 0}), name, "the old inode", found)
    # Not one of them is stuck.
    for name, size in MANY.items():
        with open(name, "ab") as file:
            file.write(b"more")
        check(open(name, "rb").read() == b"B" * size + b"more", name)


def whole():
    """Each file is all the user's or all the layers'."""
    user = 0
    for name, size in MANY.items():
        found = open(name, "rb").read()
        theirs = found == b"U" * (70 * int(name) + 10)
        check(theirs or found == b"B" * size, name, len(found), set(found))
        user += theirs
    reset()
    check(all(open(name, "rb").read() == b"B" * size for name, size in MANY.items()), "reset")
    print(user, "were the user's")


TESTS = {
    "open": open_files,
    "paths": paths,
    "mapped": mapped,
    "busy": busy,
    "running": running,
    "whole": whole,
}
for number in (1, 30, 70, 99):
    TESTS[f"daemon-{number}"] = lambda number=number: killed_daemon(number)
    TESTS[f"helper-{number}"] = lambda number=number: killed_helper(number)
TESTS[WHAT]()
print(WHAT, "is right")
