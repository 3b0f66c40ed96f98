//! The signals that ask a daemon to end, which it then does with nothing left.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask this process to end.
///
/// SIGTERM; SIGINT and SIGQUIT of the terminal it stays in the foreground of; and SIGHUP, when that
/// terminal goes. A daemon has nothing to read again at a SIGHUP, and its death would leave a dead
/// mount. Those of a terminal that whoever started this process wanted ignored (nohup, a shell for
/// its background) stay ignored.
#[derive(Debug)]
pub(crate) struct EndSignals(Vec<Signal>);

impl EndSignals {
    /// Listens from now on. To be called within an executor.
    pub(crate) fn new() -> io::Result<Self> {
        let of_terminal = [SignalKind::interrupt(), SignalKind::quit(), SignalKind::hangup()];
        let mut signals = vec![signal(SignalKind::terminate())?];
        for kind in of_terminal {
            if !spfs_sys::process::ignores_signal(kind.as_raw_value())? {
                signals.push(signal(kind)?);
            }
        }
        Ok(Self(signals))
    }

    /// Ready when one of them has come.
    pub(crate) async fn received(&mut self) {
        poll_fn(|context| {
            let has_come = |signal: &mut Signal| signal.poll_recv(context).is_ready();
            // Each has to be asked, to be woken by it.
            let come = self.0.iter_mut().map(has_come).fold(false, |any, come| any | come);
            if come { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
