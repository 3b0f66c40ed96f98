//! fuser's callbacks: each takes its arguments apart, calls the operation and sends the answer.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, Filesystem,
    FopenFlags, Generation, INodeNo, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents,
    PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek,
    ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use spfs_vfs::api::{NewKind, Remove, SetAttr};

use crate::convert;
use crate::counters::Op;
use crate::edge::{self, Edge, Entry, Failure, Found, Result, Xattr};
use crate::errno;
use crate::gate::{Gate, Turn};
use crate::platform;
use crate::session::Options;
use crate::views::{Caller, Views};

/// Node ids are never used again, so all inodes are of one generation.
const GENERATION: Generation = Generation(0);

/// The longest name.
const NAME_MAX: u32 = 255;

/// A mount as fuser sees it.
pub(crate) struct Server<W: Views> {
    edge: Arc<Edge<W>>,
    options: Options,
    gate: Arc<Gate>,
}

impl<W: Views> Server<W> {
    pub(crate) fn new(edge: Arc<Edge<W>>, options: Options, gate: Arc<Gate>) -> Self {
        Self { edge, options, gate }
    }

    /// Counts a request. What is returned is to be dropped after the answer is sent: so it comes
    /// first in each callback.
    fn turn(&self, op: Op) -> (Turn<'_>, Op) {
        self.edge.counters.add(op, 1);
        (self.gate.begin(), op)
    }

    /// Carries a request out; what goes wrong on our side is logged.
    fn call<T>(
        &self,
        (_, op): &(Turn<'_>, Op),
        id: INodeNo,
        work: impl FnOnce(&Edge<W>) -> Result<T>,
    ) -> Result<T, Errno> {
        carry_out(*op, id, || work(&self.edge))
    }

    /// As `call`, on a thread of the pool if `waits`, with `answer` to send the result.
    fn call_slow<T: 'static>(
        &self,
        &(_, op): &(Turn<'_>, Op),
        id: INodeNo,
        waits: bool,
        work: impl FnOnce(&Edge<W>) -> Result<T> + Send + 'static,
        answer: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        if !waits {
            return answer(carry_out(op, id, || work(&self.edge)));
        }
        let edge = Arc::clone(&self.edge);
        self.edge.pool.run(move || answer(carry_out(op, id, || work(&edge))));
    }

    /// Counts a request that we refuse, always with the same answer and but once or seldom.
    fn refuse(&self, op: Op, errno: Errno) -> Errno {
        self.edge.counters.add(op, 1);
        errno
    }
}

/// Runs one operation. A panic is a bug, but one that costs this request alone: without this, the
/// thread would be lost for the mount.
fn carry_out<T>(op: Op, id: INodeNo, work: impl FnOnce() -> Result<T>) -> Result<T, Errno> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Failure::Protocol(errno))) => Err(errno),
        Ok(Err(Failure::Core(error))) => {
            let errno = errno::of(&error);
            if errno == Errno::EIO {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%op, node = id.0, %error, source, "request failed");
            }
            Err(errno)
        }
        Err(_) => {
            tracing::error!(%op, node = id.0, "request panicked");
            Err(Errno::EIO)
        }
    }
}

fn caller(req: &Request) -> Caller {
    Caller { pid: req.pid(), uid: req.uid(), gid: req.gid() }
}

fn answer_empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn answer_entry(reply: ReplyEntry, result: Result<Entry, Errno>) {
    match result {
        Ok(entry) => {
            reply.entry_with_ttls(&entry.attr_ttl, &entry.entry_ttl, &entry.attr, GENERATION);
        }
        Err(errno) => reply.error(errno),
    }
}

fn answer_attr(reply: ReplyAttr, result: Result<(FileAttr, std::time::Duration), Errno>) {
    match result {
        Ok((attr, ttl)) => reply.attr(&ttl, &attr),
        Err(errno) => reply.error(errno),
    }
}

fn answer_xattr(reply: ReplyXattr, result: Result<Xattr, Errno>) {
    match result {
        Ok(Xattr::Size(size)) => reply.size(size),
        Ok(Xattr::Data(data)) => reply.data(&data),
        Err(errno) => reply.error(errno),
    }
}

impl<W: Views> Filesystem for Server<W> {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        platform::negotiate(config, &self.options);
        Ok(())
    }

    fn destroy(&mut self) {
        self.edge.clear();
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let turn = self.turn(Op::Lookup);
        let found =
            self.call(&turn, parent, |edge| edge.lookup(caller(req), parent, name.as_bytes()));
        match found {
            Ok(Found::Entry(entry)) => answer_entry(reply, Ok(entry)),
            // Node id 0 means that there is nothing, and that the kernel may remember so.
            Ok(Found::Nothing(ttl)) => {
                let nothing = convert::bare_attr(INodeNo(0), fuser::FileType::RegularFile);
                reply.entry(&ttl, &nothing, GENERATION);
            }
            Err(errno) => reply.error(errno),
        }
    }

    // fuser takes BATCH_FORGET apart and calls this for each node.
    fn forget(&self, _req: &Request, id: INodeNo, count: u64) {
        self.edge.counters.add(Op::Forget, 1);
        self.edge.forget(id, count);
    }

    fn getattr(&self, req: &Request, id: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let turn = self.turn(Op::Getattr);
        let attr = self.call(&turn, id, |edge| edge.getattr(caller(req), id));
        answer_attr(reply, attr);
    }

    fn setattr(
        &self,
        req: &Request,
        id: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let turn = self.turn(Op::Setattr);
        let set = SetAttr {
            perm: mode.map(convert::permissions),
            uid,
            gid,
            size,
            atime: atime.map(convert::set_time),
            mtime: mtime.map(convert::set_time),
            ctime: ctime.map(convert::timestamp),
            crtime: crtime.map(convert::timestamp),
            kill_privileges: false,
        };
        let caller = caller(req);
        let attr =
            self.call(&turn, id, |edge| edge.setattr(caller, id, edge::set_attr(caller, set)));
        answer_attr(reply, attr);
    }

    fn readlink(&self, req: &Request, id: INodeNo, reply: ReplyData) {
        let turn = self.turn(Op::Readlink);
        match self.call(&turn, id, |edge| edge.readlink(caller(req), id)) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let turn = self.turn(Op::Mknod);
        let entry = self.call(&turn, parent, |edge| {
            let kind = convert::new_kind(mode, rdev).ok_or(Errno::EINVAL)?;
            let perm = convert::permissions(mode & !umask);
            edge.make(caller(req), parent, name.as_bytes(), kind, perm)
        });
        answer_entry(reply, entry);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let turn = self.turn(Op::Mkdir);
        let perm = convert::permissions(mode & !umask);
        let entry = self.call(&turn, parent, |edge| {
            edge.make(caller(req), parent, name.as_bytes(), NewKind::Directory, perm)
        });
        answer_entry(reply, entry);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let turn = self.turn(Op::Unlink);
        let result = self.call(&turn, parent, |edge| {
            edge.remove(caller(req), parent, name.as_bytes(), Remove::File)
        });
        answer_empty(reply, result);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let turn = self.turn(Op::Rmdir);
        let result = self.call(&turn, parent, |edge| {
            edge.remove(caller(req), parent, name.as_bytes(), Remove::Directory)
        });
        answer_empty(reply, result);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let turn = self.turn(Op::Symlink);
        let entry = self.call(&turn, parent, |edge| {
            let kind = NewKind::Symlink(target.as_os_str().as_bytes());
            edge.make(caller(req), parent, link_name.as_bytes(), kind, 0o777)
        });
        answer_entry(reply, entry);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let turn = self.turn(Op::Rename);
        let result = self.call(&turn, parent, |edge| {
            let (from, to) = ((parent, name.as_bytes()), (newparent, newname.as_bytes()));
            edge.rename(caller(req), from, to, platform::replace(name, flags)?)
        });
        answer_empty(reply, result);
    }

    fn link(
        &self,
        req: &Request,
        id: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let turn = self.turn(Op::Link);
        let entry =
            self.call(&turn, id, |edge| edge.link(caller(req), id, newparent, newname.as_bytes()));
        answer_entry(reply, entry);
    }

    fn open(&self, req: &Request, id: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let turn = self.turn(Op::Open);
        let caller = caller(req);
        self.call_slow(
            &turn,
            id,
            platform::POOLED_PAYLOADS,
            move |edge| edge.open(caller, id, flags),
            // Only we change content, and we tell when we do: pages stay from one open to the next.
            |opened| match opened {
                Ok(fh) => reply.opened(fh, FopenFlags::FOPEN_KEEP_CACHE),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn read(
        &self,
        _req: &Request,
        id: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let turn = self.turn(Op::Read);
        match self.call(&turn, id, |edge| edge.read_now(id, fh, offset, size)) {
            Ok(Some(content)) => return reply.data(&content),
            Ok(None) => turn.0.may_wait(),
            Err(errno) => return reply.error(errno),
        }
        self.call_slow(
            &turn,
            id,
            platform::POOLED_PAYLOADS,
            move |edge| edge.read(id, fh, offset, size),
            |content| match content {
                Ok(content) => reply.data(&content),
                Err(errno) => reply.error(errno),
            },
        );
    }

    fn write(
        &self,
        req: &Request,
        id: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let turn = self.turn(Op::Write);
        let kill = platform::kill_on_write(write_flags, caller(req));
        let collected = platform::is_collected(write_flags, &self.options);
        let written = self.call(&turn, id, |edge| {
            if collected && !kill {
                edge.write_back(fh, offset, data)
            } else {
                edge.write(id, fh, offset, data, kill)
            }
        });
        match written {
            Ok(count) => reply.written(count),
            Err(errno) => reply.error(errno),
        }
    }

    /// Whoever closed need not wait: what was written has come here before (fuse_flush in the
    /// kernel writes back first), and locks are the kernel's.
    fn flush(
        &self,
        _req: &Request,
        _id: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(self.refuse(Op::Flush, Errno::ENOSYS));
    }

    fn release(
        &self,
        _req: &Request,
        id: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let turn = self.turn(Op::Release);
        let result = self.call(&turn, id, |edge| edge.release(fh));
        answer_empty(reply, result);
    }

    fn fsync(
        &self,
        _req: &Request,
        id: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let turn = self.turn(Op::Fsync);
        // Handing it to a thread of the pool costs as much as a request.
        let alone = !turn.0.has_another();
        let work = move |edge: &Edge<W>| edge.fsync(id, fh);
        self.call_slow(&turn, id, alone, work, |result| answer_empty(reply, result));
    }

    fn opendir(&self, _req: &Request, _id: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.edge.counters.add(Op::Opendir, 1);
        if platform::SILENT_OPENDIR && !W::ROUTED {
            return reply.error(Errno::ENOSYS);
        }
        let flags = if W::ROUTED {
            // The kernel keeps one listing of the root, and there are several.
            FopenFlags::empty()
        } else {
            FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR
        };
        reply.opened(FileHandle(0), flags);
    }

    fn readdir(
        &self,
        req: &Request,
        id: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let turn = self.turn(Op::Readdir);
        let listed = self.call(&turn, id, |edge| edge.readdir(caller(req), id, offset, &mut reply));
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        req: &Request,
        id: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let turn = self.turn(Op::Readdirplus);
        let listed =
            self.call(&turn, id, |edge| edge.readdirplus(caller(req), id, offset, &mut reply));
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(
        &self,
        _req: &Request,
        _id: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.edge.counters.add(Op::Releasedir, 1);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        req: &Request,
        id: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let turn = self.turn(Op::Fsyncdir);
        let caller = caller(req);
        let work = move |edge: &Edge<W>| edge.sync(caller, id);
        self.call_slow(&turn, id, true, work, |result| answer_empty(reply, result));
    }

    fn statfs(&self, req: &Request, id: INodeNo, reply: ReplyStatfs) {
        let turn = self.turn(Op::Statfs);
        match self.call(&turn, id, |edge| edge.statfs(caller(req), id)) {
            Ok(figures) => reply.statfs(
                figures.blocks,
                figures.blocks_free,
                figures.blocks_available,
                figures.files,
                figures.files_free,
                figures.block_size,
                NAME_MAX,
                figures.block_size,
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        id: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        position: u32,
        reply: ReplyEmpty,
    ) {
        let turn = self.turn(Op::Setxattr);
        let result = self.call(&turn, id, |edge| {
            if position != 0 {
                // Parts of a resource fork (macOS): fuser hides the position on reading, so what
                // was written in parts could not be read so.
                return Err(Errno::EINVAL.into());
            }
            edge.setxattr(caller(req), id, name.as_bytes(), value, flags)
        });
        answer_empty(reply, result);
    }

    fn getxattr(&self, req: &Request, id: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let turn = self.turn(Op::Getxattr);
        let value =
            self.call(&turn, id, |edge| edge.getxattr(caller(req), id, name.as_bytes(), size));
        answer_xattr(reply, value);
    }

    fn listxattr(&self, req: &Request, id: INodeNo, size: u32, reply: ReplyXattr) {
        let turn = self.turn(Op::Listxattr);
        let names = self.call(&turn, id, |edge| edge.listxattr(caller(req), id, size));
        answer_xattr(reply, names);
    }

    fn removexattr(&self, req: &Request, id: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let turn = self.turn(Op::Removexattr);
        let result =
            self.call(&turn, id, |edge| edge.removexattr(caller(req), id, name.as_bytes()));
        answer_empty(reply, result);
    }

    /// Not asked under `default_permissions`: the kernel checks by itself.
    fn access(&self, _req: &Request, _id: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(self.refuse(Op::Access, Errno::ENOSYS));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let turn = self.turn(Op::Create);
        let perm = convert::permissions(mode & !umask);
        let created = self.call(&turn, parent, |edge| {
            edge.create(caller(req), parent, name.as_bytes(), perm, OpenFlags(flags))
        });
        match created {
            // One time for both; in a routed root, where names may not be kept, neither is.
            Ok((entry, fh)) => reply.created(
                &entry.entry_ttl,
                &entry.attr,
                GENERATION,
                fh,
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn getlk(
        &self,
        _req: &Request,
        _id: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        _start: u64,
        _end: u64,
        _typ: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        reply.error(self.refuse(Op::Getlk, Errno::ENOSYS));
    }

    fn setlk(
        &self,
        _req: &Request,
        _id: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        _start: u64,
        _end: u64,
        _typ: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(self.refuse(Op::Setlk, Errno::ENOSYS));
    }

    fn bmap(&self, _req: &Request, _id: INodeNo, _blocksize: u32, _idx: u64, reply: ReplyBmap) {
        reply.error(self.refuse(Op::Bmap, Errno::ENOSYS));
    }

    fn ioctl(
        &self,
        _req: &Request,
        _id: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(self.refuse(Op::Ioctl, Errno::ENOTTY));
    }

    fn poll(
        &self,
        _req: &Request,
        _id: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(self.refuse(Op::Poll, Errno::ENOSYS));
    }

    fn fallocate(
        &self,
        req: &Request,
        id: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let turn = self.turn(Op::Fallocate);
        let result = self.call(&turn, id, |edge| {
            let how = platform::allocate(mode)?;
            edge.allocate(caller(req), id, fh, (offset, length), how)
        });
        answer_empty(reply, result);
    }

    fn lseek(
        &self,
        _req: &Request,
        id: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let turn = self.turn(Op::Lseek);
        // The kernel asks without having written back what it holds (fuse_lseek), and would take
        // data for a hole: cp(1) and tar(1) then leave it out.
        let dirty = self.edge.may_be_dirty(fh);
        self.call_slow(
            &turn,
            id,
            dirty,
            move |edge| {
                if dirty {
                    edge.fetch_pages(id, offset)?;
                }
                edge.lseek(id, fh, offset, whence)
            },
            |found| match found {
                Ok(offset) => reply.offset(offset),
                Err(errno) => reply.error(errno),
            },
        );
    }

    /// The kernel then copies through its page cache, which it keeps.
    fn copy_file_range(
        &self,
        _req: &Request,
        _id_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _id_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(self.refuse(Op::CopyFileRange, Errno::ENOSYS));
    }

    platform::platform_operations!();
}
