//! Limits of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::platform;

/// How many files this process may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nofile {
    /// Now.
    pub now: u64,
    /// After [`raise_nofile`].
    pub most: u64,
}

/// Returns how many files this process may have open.
pub fn nofile() -> Nofile {
    let limit = getrlimit(Resource::Nofile);
    let most = platform::limits::nofile_max(limit.maximum);
    Nofile { now: limit.current.unwrap_or(most), most }
}

/// Raises the number of files this process may have open as far as it is allowed to, and returns
/// the new number. It stays as it is when the system refuses.
pub fn raise_nofile() -> u64 {
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
    }
}
