//! A process that works in a runtime and keeps, outside of it, a log of what was acknowledged; when it
//! starts again after the daemon has been killed, it first checks every name and byte.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spfs_testkit::ops::Rng;
use spfs_testkit::program::say;

/// The most names that one process has at a time.
const NAMES_MAX: usize = 24;

/// The most bytes that one write brings, and about how long files get.
const WRITE_MAX: u32 = 20_000;

/// One step of a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Step {
    Create { path: String },
    Write { path: String, at: u64, len: u32, seed: u8 },
    Append { path: String, len: u32, seed: u8 },
    Truncate { path: String, size: u64 },
    Rename { from: String, to: String },
    Link { from: String, to: String },
    Unlink { path: String },
    Mkdir { path: String },
    Rmdir { path: String },
    Sync { path: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Entry {
    Directory,
    /// The number of its content, which several names may share.
    File(u64),
}

/// What the process's directory must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Model {
    names: BTreeMap<String, Entry>,
    contents: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

/// What is in the process's directory.
struct Found {
    names: BTreeMap<String, Entry>,
    contents: BTreeMap<u64, Vec<u8>>,
}

fn bytes(len: u32, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed) | 1).collect()
}

impl Model {
    fn content(&mut self, path: &str) -> &mut Vec<u8> {
        match self.names.get(path) {
            Some(Entry::File(id)) => self.contents.entry(*id).or_default(),
            other => panic!("{path} is {other:?}"),
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Create { path } => {
                self.names.insert(path.clone(), Entry::File(self.next));
                self.contents.insert(self.next, Vec::new());
                self.next += 1;
            }
            Step::Write { path, at, len, seed } => {
                let content = self.content(path);
                let (at, end) = (*at as usize, *at as usize + *len as usize);
                content.resize(content.len().max(end), 0);
                content[at..end].copy_from_slice(&bytes(*len, *seed));
            }
            Step::Append { path, len, seed } => self.content(path).extend(bytes(*len, *seed)),
            Step::Truncate { path, size } => self.content(path).resize(*size as usize, 0),
            Step::Rename { from, to } => self.rename(from, to),
            Step::Link { from, to } => drop(self.names.insert(to.clone(), self.names[from])),
            Step::Unlink { path } | Step::Rmdir { path } => drop(self.names.remove(path)),
            Step::Mkdir { path } => drop(self.names.insert(path.clone(), Entry::Directory)),
            Step::Sync { .. } => {}
        }
        let names = &self.names;
        self.contents.retain(|id, _| names.values().any(|entry| *entry == Entry::File(*id)));
    }

    /// Everything below a directory moves with it.
    fn rename(&mut self, from: &str, to: &str) {
        if self.names[from] == *self.names.get(to).unwrap_or(&Entry::Directory)
            && self.names[from] != Entry::Directory
        {
            // Both names of one file: rename(2) does nothing.
            return;
        }
        let below = format!("{from}/");
        let moved: Vec<String> = self
            .names
            .keys()
            .filter(|path| *path == from || path.starts_with(&below))
            .cloned()
            .collect();
        for path in moved {
            if let Some(entry) = self.names.remove(&path) {
                self.names.insert(format!("{to}{}", &path[from.len()..]), entry);
            }
        }
    }

    /// Why what was found is something else; `None`: it is the same, hard links included.
    fn difference(&self, found: &Found) -> Option<String> {
        let mut numbers = BTreeMap::new();
        for (path, entry) in &self.names {
            match (entry, found.names.get(path)) {
                (Entry::Directory, Some(Entry::Directory)) => {}
                (Entry::File(id), Some(Entry::File(ino))) => {
                    if *numbers.entry(id).or_insert(ino) != ino {
                        return Some(format!("{path} is not linked with its other names"));
                    }
                    let (wanted, there) = (&self.contents[id], &found.contents[ino]);
                    if wanted != there {
                        let at = wanted.iter().zip(there).position(|(one, two)| one != two);
                        let (wanted, there) = (wanted.len(), there.len());
                        return Some(format!(
                            "{path} has {there} bytes instead of {wanted}, the first other at {at:?}"
                        ));
                    }
                }
                (wanted, other) => {
                    return Some(format!("{path} is {other:?} instead of {wanted:?}"));
                }
            }
        }
        let extra = found.names.keys().find(|path| !self.names.contains_key(*path));
        extra.map(|path| format!("{path} is there"))
    }

    /// Takes over what a step made of one file that was not acknowledged: each byte the old or the
    /// new one. Returns false when it is neither.
    fn take_partly(&mut self, step: &Step, found: &Found) -> bool {
        let (Step::Write { path, .. } | Step::Append { path, .. } | Step::Truncate { path, .. }) =
            step
        else {
            return false;
        };
        let (Some(Entry::File(ino)), before) = (found.names.get(path), self.content(path).clone())
        else {
            return false;
        };
        let mut after = self.clone();
        after.apply(step);
        let after = after.content(path).clone();
        let there = &found.contents[ino];
        let either = |(at, byte): (usize, &u8)| {
            // What has become longer before its bytes arrived is zero.
            let fresh = at >= before.len() && *byte == 0;
            fresh || before.get(at) == Some(byte) || after.get(at) == Some(byte)
        };
        let lens = before.len().min(after.len())..=before.len().max(after.len());
        if !lens.contains(&there.len()) || !there.iter().enumerate().all(either) {
            return false;
        }
        self.content(path).clone_from(there);
        true
    }
}

impl Step {
    /// Returns once the daemon has acknowledged it.
    fn perform(&self, root: &Path) -> io::Result<()> {
        let at = |path: &str| root.join(path);
        match self {
            Self::Create { path } => File::create_new(at(path)).map(drop),
            Self::Write { path, at: offset, len, seed } => {
                let file = OpenOptions::new().write(true).open(at(path))?;
                file.write_all_at(&bytes(*len, *seed), *offset)
            }
            Self::Append { path, len, seed } => {
                let mut file = OpenOptions::new().append(true).open(at(path))?;
                file.write_all(&bytes(*len, *seed))
            }
            Self::Truncate { path, size } => {
                OpenOptions::new().write(true).open(at(path))?.set_len(*size)
            }
            Self::Rename { from, to } => fs::rename(at(from), at(to)),
            Self::Link { from, to } => fs::hard_link(at(from), at(to)),
            Self::Unlink { path } => fs::remove_file(at(path)),
            Self::Mkdir { path } => fs::create_dir(at(path)),
            Self::Rmdir { path } => fs::remove_dir(at(path)),
            Self::Sync { path } => File::open(at(path))?.sync_all(),
        }
    }

    /// A step that must succeed.
    fn random(rng: &mut Rng, model: &Model) -> Self {
        let files: Vec<&String> = paths(model, |entry| *entry != Entry::Directory);
        let dirs: Vec<&String> = paths(model, |entry| *entry == Entry::Directory);
        let fresh = |rng: &mut Rng| {
            let name = format!("n{}", rng.next_u64());
            match dirs.len() {
                0 => name,
                _ if rng.chance(1, 2) => name,
                _ => format!("{}/{name}", rng.choose(&dirs)),
            }
        };
        let path = fresh(rng);
        if model.names.contains_key(&path) || files.is_empty() {
            return Self::Create { path: format!("f{}", model.next) };
        }
        let file = rng.choose(&files).clone();
        let (len, seed) = (rng.below(WRITE_MAX) + 1, rng.next_u64() as u8);
        let full = model.names.len() >= NAMES_MAX;
        match rng.below(20) {
            0..=2 if !full => Self::Create { path },
            3 if !full && path.matches('/').count() < 3 => Self::Mkdir { path },
            4 if !full => Self::Link { from: file, to: path },
            5..=8 => Self::Write { path: file, at: rng.below(WRITE_MAX).into(), len, seed },
            9 | 10 if model.contents.values().map(Vec::len).sum::<usize>() < 400_000 => {
                Self::Append { path: file, len: len / 4 + 1, seed }
            }
            11 => Self::Truncate { path: file, size: rng.below(WRITE_MAX).into() },
            12 | 13 => Self::Rename { from: file, to: path },
            14 => Self::Rename { from: file, to: rng.choose(&files).clone() },
            15 if !dirs.is_empty() => {
                let from = rng.choose(&dirs).clone();
                Self::Rename { from, to: format!("d{}", rng.next_u64()) }
            }
            16 => match dirs.iter().find(|dir| is_empty(model, dir)) {
                Some(dir) => Self::Rmdir { path: (*dir).clone() },
                None => Self::Sync { path: file },
            },
            17 => Self::Sync { path: file },
            _ => Self::Unlink { path: file },
        }
    }
}

fn paths(model: &Model, wanted: impl Fn(&Entry) -> bool) -> Vec<&String> {
    model.names.iter().filter(|(_, entry)| wanted(entry)).map(|(path, _)| path).collect()
}

fn is_empty(model: &Model, dir: &str) -> bool {
    let below = format!("{dir}/");
    !model.names.keys().any(|path| path.starts_with(&below))
}

fn find(root: &Path) -> io::Result<Found> {
    let mut found = Found { names: BTreeMap::new(), contents: BTreeMap::new() };
    let mut todo = vec![PathBuf::new()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(root.join(&dir))? {
            let path = dir.join(entry?.file_name());
            let stat = fs::symlink_metadata(root.join(&path))?;
            let name = path.display().to_string();
            if stat.is_dir() {
                found.names.insert(name, Entry::Directory);
                todo.push(path);
            } else {
                found.names.insert(name, Entry::File(stat.ino()));
                found.contents.insert(stat.ino(), fs::read(root.join(&path))?);
            }
        }
    }
    Ok(found)
}

/// The state that was checked last, and the log since.
struct Notes {
    state: PathBuf,
    log: PathBuf,
}

impl Notes {
    fn new(dir: &Path, id: &str) -> Self {
        Self { state: dir.join(format!("{id}.state")), log: dir.join(format!("{id}.log")) }
    }

    /// What was acknowledged, how many steps that were, and the step that was not.
    fn read(&self) -> (Model, usize, Option<Step>) {
        let state = fs::read(&self.state).ok();
        let mut model: Model =
            state.map(|text| serde_json::from_slice(&text).unwrap()).unwrap_or_default();
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let (mut steps, mut pending) = (0, None);
        for line in log.lines() {
            if line == "ok" {
                model.apply(&pending.take().expect("a step is noted before it is done"));
                steps += 1;
            } else {
                pending = Some(serde_json::from_str(line).unwrap());
            }
        }
        (model, steps, pending)
    }

    /// Begins a new log with what was found.
    fn checkpoint(&self, model: &Model) -> File {
        let new = self.state.with_extension("new");
        fs::write(&new, serde_json::to_vec(model).unwrap()).unwrap();
        fs::rename(new, &self.state).unwrap();
        File::create(&self.log).unwrap()
    }
}

/// What a process does once it has checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// It works until the daemon is gone.
    Killed,
    /// The same, and the daemon may refuse changes before it ends.
    Asked,
    /// It does nothing more.
    Checked,
}

impl Until {
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "killed" => Self::Killed,
            "asked" => Self::Asked,
            "checked" => Self::Checked,
            _ => panic!("{text}"),
        }
    }
}

/// Checks what an earlier process noted, and goes on working.
pub(crate) fn work(id: &str, dir: &Path, until: Until) {
    let root = Path::new("/spfs").join(id);
    let notes = Notes::new(dir, id);
    let (mut model, steps, pending) = notes.read();
    let mount = File::open("/spfs").unwrap();
    fs::create_dir_all(&root).unwrap();
    let found = find(&root).unwrap();
    if let Some(difference) = model.difference(&found) {
        let step = pending.unwrap_or_else(|| panic!("{id}: {difference}"));
        let mut done = model.clone();
        done.apply(&step);
        if done.difference(&found).is_none() {
            model = done;
        } else {
            let taken = model.take_partly(&step, &found);
            let left = model.difference(&found);
            assert!(taken && left.is_none(), "{id}, after {step:?}: {difference}, {left:?}");
        }
    }
    let held: usize = model.contents.values().map(Vec::len).sum();
    say(&format!("checked {steps} {} {held}", model.names.len()));
    let mut log = notes.checkpoint(&model);
    // Other steps each time and in each process.
    let process = u64::from(std::process::id());
    let mut rng = Rng::new(process << 32 | steps as u64);
    if until == Until::Checked {
        return;
    }
    // When the test has failed it kills the shell that started this.
    let shell = parent_id();
    while parent_id() == shell {
        let step = Step::random(&mut rng, &model);
        let mut line = serde_json::to_vec(&step).unwrap();
        line.push(b'\n');
        log.write_all(&line).unwrap();
        let done = step.perform(&root);
        // What close(2) has written back is acknowledged if the daemon answers afterwards.
        let alive = spfs_sys::files::fstatvfs(&mount);
        match (done, alive) {
            (Ok(()), Ok(_)) => {}
            (_, Err(_)) => return,
            (Err(error), _)
                if until == Until::Asked && error.kind() == io::ErrorKind::ReadOnlyFilesystem =>
            {
                return;
            }
            (Err(error), Ok(_)) => panic!("{id}: {step:?}: {error}"),
        }
        log.write_all(b"ok\n").unwrap();
        model.apply(&step);
    }
}
