//! Giving files their content back through the mount, so that the kernel knows
//! ([`spfs_vfs::Offer`] says how and why).
//!
//! The daemon must not touch the mount that it serves, and a runtime's own mount is not even there
//! for it. A short-lived child does it: it joins the runtime's namespaces, or is a process of the
//! view among others. There it has a copy of the mounts for itself, so that a read-only mount can
//! be writable for it alone.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use spfs_fuse::ViewId;
use spfs_sys::{files, mount};
use spfs_vfs::api::Ino;
use spfs_vfs::{Offer, WHOLE_FILE};

use crate::args::GiveBackArguments;
use crate::child;
use crate::remount::{MOUNTPOINT, RemountError, in_namespace};

/// A file grows to a multiple of this before it gets its size, so that the kernel drops its last
/// page whole and does not zero a part of it: the largest page of the machines we run on.
const PAGE_MAX: u64 = 64 << 10;

/// Where the child finds a view.
pub(crate) enum Place<'a> {
    /// In the mount of a mount namespace; the process to try first.
    Namespace(&'a str, u32),
    /// Below a directory. The child may have to be known there: it waits until this was called.
    Directory(&'a Path, &'a dyn Fn(u32) -> io::Result<()>),
}

/// Has files given back. Returns those that are done; what failed is in the log.
pub(crate) fn give_back(place: &Place<'_>, view: ViewId, offers: &[Offer]) -> HashSet<Ino> {
    let numbered: HashMap<u64, &Offer> =
        offers.iter().filter_map(|offer| Some((view.inode_number(offer.ino)?, offer))).collect();
    if numbered.is_empty() {
        return HashSet::new();
    }
    let done = RefCell::new(HashSet::new());
    let run = |more: &[&OsStr], known: &dyn Fn(u32) -> io::Result<()>| {
        let found = run_child(more, known, &numbered)?;
        done.borrow_mut().extend(found);
        Ok(())
    };
    let result = match place {
        Place::Namespace(namespace, first) => in_namespace(namespace, *first, &|pid| {
            let pid = pid.to_string();
            let more = ["--target", MOUNTPOINT, "--pid", &pid, "--namespace", namespace];
            run(&more.map(OsStr::new), &|_| Ok(()))
        }),
        Place::Directory(path, known) => run(&[OsStr::new("--target"), path.as_os_str()], known),
    };
    if let Err(error) = result {
        tracing::warn!("files that are reset get new inodes: {}", crate::failure::chain(&error));
    }
    done.into_inner()
}

fn run_child(
    arguments: &[&OsStr],
    known: &dyn Fn(u32) -> io::Result<()>,
    offers: &HashMap<u64, &Offer>,
) -> Result<Vec<Ino>, RemountError> {
    let arguments = |command: &mut Command| {
        command.arg("give-back").args(arguments);
    };
    let output = child::run(arguments, known, tell(offers))?;
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().for_each(|line| tracing::info!("not reset in place: {line}"));
    let done = String::from_utf8_lossy(&output.stdout);
    let done: Vec<Ino> =
        done.lines().filter_map(|line| Some(offers.get(&line.parse().ok()?)?.ino)).collect();
    if done.is_empty() && !output.status.success() {
        return Err(RemountError::Failed { reason: said.trim().to_owned() });
    }
    Ok(done)
}

/// Number, size and path of each file, each of them with a NUL behind.
fn tell(offers: &HashMap<u64, &Offer>) -> Vec<u8> {
    let mut text = Vec::new();
    for (number, offer) in offers {
        text.extend_from_slice(format!("{number}\0{}\0", offer.size).as_bytes());
        text.extend_from_slice(&offer.path);
        text.push(0);
    }
    text
}

/// What the child is told of a file.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    number: u64,
    size: u64,
    path: PathBuf,
}

fn parse(text: &[u8]) -> Option<Vec<Told>> {
    let Some(text) = text.strip_suffix(b"\0") else {
        return text.is_empty().then(Vec::new);
    };
    let fields: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    let told = |fields: &[&[u8]]| {
        let [number_field, size, path] = fields else { return None };
        let path = PathBuf::from(OsStr::from_bytes(path));
        Some(Told { number: number(number_field)?, size: number(size)?, path })
    };
    fields.chunks(3).map(told).collect()
}

/// The child.
pub(crate) fn main(arguments: &GiveBackArguments) -> ExitCode {
    match work(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::report(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: &GiveBackArguments) -> io::Result<()> {
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    let told = parse(&text).ok_or(io::ErrorKind::InvalidInput)?;
    let GiveBackArguments { target, pid, namespace } = arguments;
    if let Some(pid) = pid {
        mount::join_namespaces(*pid, namespace.as_deref())
            .and_then(|()| mount::copy_namespace())
            .and_then(|()| mount::set_read_only(target, false))
            .map_err(|error| io::Error::other(crate::failure::chain(&error)))?;
    }
    let root = File::open(target)?;
    for file in &told {
        match give_one_back(&root, file) {
            Ok(()) => writeln!(io::stdout(), "{}", file.number)?,
            Err(error) => crate::report(&format!("{}: {error}", file.path.display())),
        }
    }
    Ok(())
}

fn give_one_back(root: &File, told: &Told) -> io::Result<()> {
    let file = files::open_beneath(root, &told.path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.ino() != told.number {
        return Err(io::Error::other("another file has this path now"));
    }
    if found.len() < told.size {
        files::zero_all(&file, told.size.next_multiple_of(PAGE_MAX))?;
    } else {
        files::punch_hole(&file, 0, WHOLE_FILE)?;
    }
    if file.metadata()?.len() != told.size {
        file.set_len(told.size)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_child_is_told_it_understands() {
        let told = |number, size, path: &str| Told { number, size, path: path.into() };
        assert_eq!(parse(b""), Some(vec![]));
        let text = b"7\x000\0a/b\n\x008\x0012\0c\0";
        assert_eq!(parse(text), Some(vec![told(7, 0, "a/b\n"), told(8, 12, "c")]));
        for bad in [&b"7"[..], b"7\0", b"7\x000\0", b"x\x000\0a\0", b"7\0-1\0a\0"] {
            assert_eq!(parse(bad), None, "{}", bad.escape_ascii());
        }
    }
}
