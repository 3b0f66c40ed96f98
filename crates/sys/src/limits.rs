//! Limits of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::platform;

/// How many files this process may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nofile {
    /// Now.
    pub now: u64,
    /// After [`raise_nofile_to`].
    pub most: u64,
}

/// Returns how many files this process may have open.
pub fn nofile() -> Nofile {
    let limit = getrlimit(Resource::Nofile);
    let most = platform::limits::nofile_max(limit.maximum);
    Nofile { now: limit.current.unwrap_or(most), most }
}

/// It stays as it is when the system refuses.
fn raise_nofile() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let Nofile { now: current, most } = nofile();
    if current >= most {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }) {
        Ok(()) => most,
        Err(_) => current,
    }
}

/// A process may not have as many files open as it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{needed} open files are needed, and the limit is {most}: raise the hard limit on open files \
     (ulimit -Hn) to {needed} or more"
)]
pub struct TooFewFiles {
    /// How many it needs.
    pub needed: u64,
    /// How many it may have open at most.
    pub most: u64,
}

/// Raises the number of files this process may have open as far as it is allowed to, and returns
/// the new number. It cannot do its work with fewer than `needed`.
///
/// # Errors
/// When the limit stays below that.
pub fn raise_nofile_to(needed: u64) -> Result<u64, TooFewFiles> {
    let most = raise_nofile();
    if most >= needed { Ok(most) } else { Err(TooFewFiles { needed, most }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let raised = raise_nofile();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, Some(raised));
        assert!(limit.maximum.is_none_or(|maximum| raised == maximum));
        assert_eq!(raise_nofile(), raised);
        assert_eq!(nofile().now, raised);
        assert_eq!(raise_nofile_to(raised), Ok(raised));
        if let Some(more) = raised.checked_add(1) {
            assert_eq!(raise_nofile_to(more), Err(TooFewFiles { needed: more, most: raised }));
        }
    }
}
