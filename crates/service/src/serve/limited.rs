//! A port's connections, of which there are only so many at a time.
//!
//! Every user of the machine can connect to a port, and who is refused an answer may keep the connection. Without a
//! limit they could take all descriptors of the process, and the mount would fail for everybody.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Connections of a port at a time; further ones wait.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// A connection that counts.
#[derive(Debug)]
pub(super) struct Limited {
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
}

/// The connections of a port, at most [`CONNECTIONS_MAX`] at a time.
pub(super) fn connections(listener: TcpListener) -> impl Stream<Item = io::Result<Limited>> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    TcpListenerStream::new(listener).then(move |stream| {
        let places = Arc::clone(&places);
        async move {
            let stream = stream?;
            // The semaphore is never closed.
            let place = places.acquire_owned().await.ok();
            Ok(Limited { stream, _place: place })
        }
    })
}

impl Connected for Limited {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Limited {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Limited {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_connection_too_many_waits_for_another_to_end() {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        executor.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut accepted = std::pin::pin!(connections(listener));
            let (mut clients, mut held) = (Vec::new(), Vec::new());
            for _ in 0..CONNECTIONS_MAX {
                clients.push(TcpStream::connect(address).await.unwrap());
                held.push(accepted.next().await.unwrap().unwrap());
            }
            clients.push(TcpStream::connect(address).await.unwrap());
            let moment = Duration::from_millis(50);
            assert!(tokio::time::timeout(moment, accepted.next()).await.is_err());
            held.pop();
            let last = tokio::time::timeout(Duration::from_secs(10), accepted.next()).await;
            assert!(last.is_ok_and(|last| last.is_some_and(|last| last.is_ok())));
        });
    }
}
