//! Hashing and copying streams.

use std::io::{self, Read, Write};

use spfs_model::{Digest, Hasher};

/// Large enough that system calls weigh little, small enough to stay in the cache of a core.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;

/// The digest and size of what a reader yields.
pub(crate) fn hash(reader: &mut dyn Read) -> io::Result<(Digest, u64)> {
    hash_while_copying(reader, &mut io::sink())
}

/// Copies, and returns the digest and size of what was copied.
pub(crate) fn hash_while_copying(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
) -> io::Result<(Digest, u64)> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut hasher = Hasher::new();
    let mut size = 0;
    loop {
        let len = match reader.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), size)),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..len]);
        writer.write_all(&buffer[..len])?;
        size += len as u64;
    }
}
