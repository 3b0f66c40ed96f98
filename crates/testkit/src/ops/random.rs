//! Making operations at random.

use spfs_vfs::api::{Allocate, Replace, Seek};

use super::{Control, Kind, Op, Profile};

/// Random numbers from a seed: splitmix64, the same on every machine.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        // The upper half times the limit, shifted down: Lemire's range reduction.
        let wide = (self.next_u64() >> 32) * u64::from(limit);
        (wide >> 32) as u32
    }

    /// Returns true `times` times out of `of`.
    pub fn chance(&mut self, times: u32, of: u32) -> bool {
        self.below(of) < times
    }

    /// Chooses one of a list, which is not empty.
    pub fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }

    fn pick(&mut self) -> u16 {
        self.next_u64() as u16
    }

    fn byte(&mut self) -> u8 {
        self.next_u64() as u8
    }

    fn file_slot(&mut self) -> u8 {
        self.byte() % Op::FILE_SLOTS
    }
}

/// Permission bits worth trying; those with a bare setgid last.
const PERMS: [u16; 9] = [0o644, 0o755, 0o600, 0o000, 0o4755, 0o6711, 0o2775, 0o1777, 0o2644];

/// Lengths and offsets around the edges of pages and of what is copied whole.
const EDGES: [u32; 12] =
    [0, 1, 100, 4095, 4096, 4097, 8192, 12_000, 65_536, (128 << 10) - 1, (128 << 10) + 1, 200_000];

type Make = fn(&mut Rng, &Profile) -> Op;

/// How often which operation comes up, of the sum.
const WEIGHTS: [(u32, Make); 27] = [
    (60, lookup),
    (20, forget),
    (150, make),
    (40, link),
    (70, unlink),
    (50, rmdir),
    (130, rename),
    (20, chmod),
    (15, chown),
    (35, truncate),
    (15, utimens),
    (4, set_birth),
    (45, set_xattr),
    (30, get_xattr),
    (20, remove_xattr),
    (10, |rng, _| Op::Readlink { node: rng.pick() }),
    (10, |rng, _| Op::Parent { dir: rng.pick() }),
    (20, |rng, _| Op::List { dir: rng.pick() }),
    (20, scan_start),
    (30, scan_next),
    (80, open),
    (25, |rng, _| Op::Close { slot: rng.file_slot() }),
    (60, read_at),
    (100, write_at),
    (30, fallocate),
    (20, seek_to),
    (10, sync),
];

impl Op {
    /// Makes an operation.
    pub fn random(rng: &mut Rng, profile: &Profile) -> Self {
        if rng.chance(profile.controls, 1000) {
            return Self::Control(control(rng));
        }
        let sum = WEIGHTS.iter().map(|(weight, _)| weight).sum();
        let mut at = rng.below(sum);
        for (weight, make) in WEIGHTS {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return make(rng, profile),
            }
        }
        Self::SyncAll
    }
}

fn control(rng: &mut Rng) -> Control {
    match rng.below(12) {
        0..4 => Control::Reopen,
        4..7 => Control::Commit,
        7 => Control::Edit(false),
        // Most of the time changes are allowed.
        8..10 => Control::Edit(true),
        10 => Control::Reset(None),
        _ => Control::Reset(Some(rng.pick())),
    }
}

fn lookup(rng: &mut Rng, _: &Profile) -> Op {
    Op::Lookup { dir: rng.pick(), name: rng.byte() }
}

fn forget(rng: &mut Rng, _: &Profile) -> Op {
    Op::Forget { node: rng.pick() }
}

fn make(rng: &mut Rng, profile: &Profile) -> Op {
    let rdev = rng.choose(&[0, 0x0103, 0x0801]);
    let kind = match rng.below(20) {
        0..9 => Kind::NewFile,
        9..15 => Kind::NewDir,
        15..17 => Kind::NewSymlink(rng.choose(&[1, 7, 200, 4095])),
        17 if profile.specials => rng.choose(&[Kind::NewPipe, Kind::NewSocket]),
        18 if profile.devices => rng.choose(&[Kind::NewChar(rdev), Kind::NewBlock(rdev)]),
        _ => Kind::NewFile,
    };
    let perm = match kind {
        // The kernel gives symbolic links all permissions, and mkdir(2) takes no set-id bits.
        Kind::NewSymlink(_) => 0o777,
        Kind::NewDir => rng.choose(&[0o755, 0o700, 0o1777]),
        _ => perm(rng, profile),
    };
    Op::Make { dir: rng.pick(), name: rng.byte() & 0x7f, kind, perm, owner: rng.byte() }
}

fn perm(rng: &mut Rng, profile: &Profile) -> u16 {
    let bare = usize::from(!profile.bare_setgid);
    let perm = rng.choose(&PERMS[..PERMS.len() - bare]);
    // Who is not privileged must be able to go on working with what it made.
    if profile.privileged { perm } else { perm | 0o700 }
}

fn link(rng: &mut Rng, _: &Profile) -> Op {
    Op::Link { node: rng.pick(), dir: rng.pick(), name: rng.byte() & 0x7f }
}

/// Mostly a name that exists.
fn existing(rng: &mut Rng) -> u8 {
    if rng.chance(9, 10) { rng.byte() | 0x80 } else { rng.byte() & 0x7f }
}

fn unlink(rng: &mut Rng, _: &Profile) -> Op {
    Op::Unlink { dir: rng.pick(), name: existing(rng) }
}

fn rmdir(rng: &mut Rng, _: &Profile) -> Op {
    Op::Rmdir { dir: rng.pick(), name: existing(rng) }
}

fn rename(rng: &mut Rng, _: &Profile) -> Op {
    let replace = rng.choose(&[Replace::Allow, Replace::Allow, Replace::Refuse, Replace::Exchange]);
    let to = if replace == Replace::Exchange { existing(rng) } else { rng.byte() };
    Op::Rename { from: (rng.pick(), existing(rng)), to: (rng.pick(), to), replace }
}

fn chmod(rng: &mut Rng, profile: &Profile) -> Op {
    Op::Chmod { node: rng.pick(), perm: perm(rng, profile) }
}

fn kill(rng: &mut Rng, profile: &Profile) -> bool {
    !profile.privileged || rng.chance(1, 2)
}

fn chown(rng: &mut Rng, profile: &Profile) -> Op {
    let (uid, gid) = (rng.byte(), rng.byte());
    let which = rng.below(3);
    Op::Chown {
        node: rng.pick(),
        uid: (which != 0).then_some(uid),
        gid: (which != 1).then_some(gid),
        kill: kill(rng, profile),
    }
}

/// A place in a file: near its end, or near an edge.
fn offset(rng: &mut Rng, profile: &Profile) -> u32 {
    match rng.below(4) {
        0 => 1 << 31 | rng.below(256),
        1 => rng.below(20_000).min(profile.file_size_max),
        _ => rng.choose(&EDGES).min(profile.file_size_max),
    }
}

fn len(rng: &mut Rng, profile: &Profile) -> u32 {
    match rng.below(4) {
        0 => rng.below(64),
        1 => rng.below(9000).min(profile.file_size_max),
        _ => rng.choose(&EDGES).min(profile.file_size_max),
    }
}

fn truncate(rng: &mut Rng, profile: &Profile) -> Op {
    let size = if rng.chance(1, 3) { 0 } else { offset(rng, profile) };
    Op::Truncate { node: rng.pick(), size, kill: kill(rng, profile) }
}

fn utimens(rng: &mut Rng, _: &Profile) -> Op {
    let (atime, mtime) = (rng.byte() % 5, rng.byte() % 5);
    let which = rng.below(3);
    Op::Utimens {
        node: rng.pick(),
        atime: (which != 0).then_some(atime),
        mtime: (which != 1).then_some(mtime),
    }
}

fn set_birth(rng: &mut Rng, profile: &Profile) -> Op {
    if profile.birth_times {
        Op::SetBirth { node: rng.pick(), time: rng.byte() % 4 }
    } else {
        chmod(rng, profile)
    }
}

fn set_xattr(rng: &mut Rng, profile: &Profile) -> Op {
    let (shortest, longest) = profile.xattr_len;
    let len = rng.choose(&[0, 1, 20, 900, 4096, 65_536, 65_537]).clamp(shortest, longest);
    let name = rng.byte();
    Op::SetXattr { node: rng.pick(), name, len, fill: rng.next_u64(), mode: rng.byte() % 3 }
}

fn get_xattr(rng: &mut Rng, _: &Profile) -> Op {
    Op::GetXattr { node: rng.pick(), name: existing(rng) }
}

fn remove_xattr(rng: &mut Rng, _: &Profile) -> Op {
    Op::RemoveXattr { node: rng.pick(), name: existing(rng) }
}

fn scan_start(rng: &mut Rng, _: &Profile) -> Op {
    Op::ScanStart { slot: rng.byte() % Op::SCAN_SLOTS, dir: rng.pick(), entries: rng.byte() % 4 }
}

fn scan_next(rng: &mut Rng, _: &Profile) -> Op {
    Op::ScanNext { slot: rng.byte() % Op::SCAN_SLOTS, entries: rng.byte() % 6 }
}

fn open(rng: &mut Rng, _: &Profile) -> Op {
    Op::Open { slot: rng.file_slot(), node: rng.pick(), write: rng.chance(3, 4) }
}

fn read_at(rng: &mut Rng, profile: &Profile) -> Op {
    Op::ReadAt { slot: rng.file_slot(), offset: offset(rng, profile), len: len(rng, profile) }
}

fn write_at(rng: &mut Rng, profile: &Profile) -> Op {
    Op::WriteAt {
        slot: rng.file_slot(),
        offset: offset(rng, profile),
        len: len(rng, profile),
        fill: rng.byte(),
        kill: kill(rng, profile),
    }
}

fn fallocate(rng: &mut Rng, profile: &Profile) -> Op {
    let how = rng.choose(&[
        Allocate::Extend,
        Allocate::KeepSize,
        Allocate::PunchHole,
        Allocate::PunchHole,
        Allocate::ZeroRange,
        Allocate::ZeroRangeKeepSize,
    ]);
    let (offset, len) = (offset(rng, profile), len(rng, profile));
    Op::Fallocate { slot: rng.file_slot(), offset, len, how, kill: kill(rng, profile) }
}

fn seek_to(rng: &mut Rng, profile: &Profile) -> Op {
    let what = rng.choose(&[Seek::Data, Seek::Hole]);
    Op::SeekTo { slot: rng.file_slot(), offset: offset(rng, profile), what }
}

fn sync(rng: &mut Rng, _: &Profile) -> Op {
    if rng.chance(1, 8) { Op::SyncAll } else { Op::SyncFile { slot: rng.file_slot() } }
}
