//! What the first write to a large file costs on volumes that share blocks and on one that does not.

use crate::harness::{Spfs, World, is_root, mounts_work, own_mounts};

/// Size of the file that is changed; far more than a change of it may cost.
const FILE_MIB: u64 = 64;

/// Makes a volume of `$KIND`, and a storage on it with one large file in one layer. `used` tells the
/// bytes in use, `blocks` those of the one scratch file.
const VOLUME: &str = r#"
set -eu
truncate -s 600M "$WORLD/image"
mkfs."$KIND" $OPTIONS "$WORLD/image" > /dev/null
mount -o loop "$WORLD/image" "$SPFS_STORAGE_ROOT"
head -c "${MIB}M" /dev/urandom > big/file
"$SPFS" commit --path big -t big
export used='sync -f "$SPFS_STORAGE_ROOT"; df --output=used -B1 "$SPFS_STORAGE_ROOT" | tail -n 1'
cp big/file expected
printf changed | dd of=expected bs=1 seek=20000001 conv=notrunc status=none
"$SPFS" run --edit big -- sh -eu -c "$CHANGE"
"$SPFS" run big+changed -- cmp /spfs/file expected && echo same after the commit
"#;

/// Changes seven bytes in the middle and says what that has cost, then commits.
const CHANGE: &str = r#"
before=$(eval "$used")
printf changed | dd of=/spfs/file bs=1 seek=20000001 conv=notrunc,fsync status=none
echo change $(( $(eval "$used") - before ))
echo scratch $(( 512 * $(stat -c %b "$SPFS_STORAGE_ROOT"/runtimes/*/scratch/*) ))
cmp /spfs/file expected && echo same before the commit
"$SPFS" commit layer -t changed
echo commit $(( $(eval "$used") - before ))
cmp /spfs/file expected && echo same while it runs on
"#;

/// The number after a word in the output.
fn figure(output: &str, word: &str) -> u64 {
    let line = output.lines().find_map(|line| line.strip_prefix(word)).expect(word);
    line.trim().parse().expect(word)
}

/// A script that mounts a volume on the storage, in a mount namespace of its own.
fn on_a_volume(world: &World, script: &str) -> Spfs {
    std::fs::create_dir(world.storage()).unwrap();
    world
        .spfs(["--mount", "bash", "-c", script])
        .program("unshare")
        .env("WORLD", world.path("."))
        .env("SPFS", world.program())
        .env("SPFS_STORAGE_ROOT", world.storage())
}

fn change_on(kind: &str, options: &str) -> Option<[u64; 3]> {
    if !mounts_work() || !own_mounts("the storage is in a mount namespace of its own") {
        return None;
    }
    if !is_root() {
        eprintln!("SKIPPED: only root can mount a volume of {kind}");
        return None;
    }
    let world = World::new();
    if world.spfs(["-c", &format!("command -v mkfs.{kind}")]).program("sh").run().code != 0 {
        eprintln!("SKIPPED: mkfs.{kind} is not installed");
        return None;
    }
    world.directory("big", &[]);
    let outcome = on_a_volume(&world, VOLUME)
        .env("KIND", kind)
        .env("OPTIONS", options)
        .env("MIB", FILE_MIB.to_string())
        .env("CHANGE", CHANGE)
        .run();
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    for when in ["before the commit", "while it runs on", "after the commit"] {
        assert!(outcome.stdout.contains(&format!("same {when}")), "{outcome:#?}");
    }
    Some(["change ", "scratch ", "commit "].map(|word| figure(&outcome.stdout, word)))
}

const MIB: u64 = 1 << 20;

/// What a change may cost beside what is written: the journal reserves 4 MiB ahead, and the volume
/// has its own bookkeeping.
const AROUND: u64 = 8 * MIB;

/// Where blocks are shared, the scratch file is a clone, and the committed payload is that file.
fn blocks_are_shared_on(kind: &str, options: &str) {
    let Some([change, scratch, commit]) = change_on(kind, options) else { return };
    assert!(change < AROUND, "{change} bytes for seven");
    assert!(scratch >= FILE_MIB * MIB, "not a clone: {scratch} bytes");
    assert!(commit < AROUND, "{commit} bytes in a commit of seven");
}

#[test]
fn xfs_shares_the_blocks_of_what_is_changed_and_committed() {
    blocks_are_shared_on("xfs", "-q -m reflink=1");
}

#[test]
fn btrfs_shares_the_blocks_of_what_is_changed_and_committed() {
    blocks_are_shared_on("btrfs", "-q");
}

#[test]
fn ext4_holds_only_what_is_written() {
    let Some([change, scratch, _]) = change_on("ext4", "-q") else { return };
    assert!(change < AROUND, "{change} bytes for seven");
    assert!(scratch < MIB, "{scratch} bytes of scratch for seven");
}

/// Fills the volume that holds the storage from inside a runtime.
const FULL: &str = r#"
set -eu
mount -t tmpfs -o size=64M tmpfs "$SPFS_STORAGE_ROOT"
"$SPFS" commit --path small -t small
"$SPFS" run --edit --keep-runtime --runtime-name full small -- bash -eu -c "$FILL"
"$SPFS" run --rerun full -- sh -c 'cat /spfs/kept /spfs/mine; echo; stat -c "%s bytes again" /spfs/again'
"#;

/// Writes until there is no room, then makes room and uses it at once.
const FILL: &str = r#"
printf mine > /spfs/mine
! head -c 100M /dev/zero > /spfs/big 2> "$WORLD/error"
grep -o "No space left on device" "$WORLD/error"
cmp /spfs/kept small/kept && echo still whole
rm /spfs/big
head -c 40M /dev/zero > /spfs/again && echo room at once
"#;

#[test]
fn a_full_volume_stops_the_writer_alone_and_what_is_removed_makes_room_at_once() {
    if !mounts_work() || !own_mounts("the storage is in a mount namespace of its own") {
        return;
    }
    if !is_root() {
        return eprintln!("SKIPPED: only root can mount a small volume");
    }
    let world = World::new();
    world.directory("small", &[("kept", "kept ")]);
    let outcome = on_a_volume(&world, FULL).env("FILL", FILL).run();
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    for line in [
        "No space left on device",
        "still whole",
        "room at once",
        "kept mine",
        "41943040 bytes again",
    ] {
        assert!(outcome.stdout.lines().any(|found| found == line), "{line}: {outcome:#?}");
    }
}
