//! What carries the bytes of a session: sending never waits, receiving waits as long as it is told.
//!
//! A thread behind the wire takes all that the other end sends, at once, so that neither end can
//! wait for the other while both have something to send. What waits to be looked at is bounded:
//! a session has so much under way at most, and a server that sends more is hung up on.

use crate::base::limits::SFTP_WAITING_BYTES_MAX;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// What one piece costs beside its bytes, so that many empty ones cannot fill the memory.
const PIECE_BYTES: usize = 64;

/// The two directions to a server.
pub trait Wire: Send {
    /// Takes bytes to be sent, and does not wait until they are.
    ///
    /// # Errors
    /// When the other end is gone.
    fn send(&mut self, bytes: Vec<u8>) -> io::Result<()>;

    /// Waits for bytes. None when the other end has closed.
    ///
    /// # Errors
    /// `TimedOut` when none came within the limit; others when the connection broke.
    fn receive(&mut self, limit: Duration) -> io::Result<Option<Vec<u8>>>;

    /// Returns what the other end said for people, beside the protocol; empty for nothing.
    fn said(&self) -> String {
        String::new()
    }
}

/// Makes the way from the thread behind a wire to the session.
pub fn queue() -> (Inlet, Outlet) {
    let (sender, receiver) = mpsc::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    (Inlet { sender, waiting: Arc::clone(&waiting) }, Outlet { receiver, waiting })
}

/// Where the thread behind a wire puts what came.
pub struct Inlet {
    sender: mpsc::Sender<io::Result<Vec<u8>>>,
    waiting: Arc<AtomicUsize>,
}

impl Inlet {
    /// Puts a piece. False when nobody listens any more, or too much waits.
    pub fn put(&self, bytes: Vec<u8>) -> bool {
        let cost = bytes.len() + PIECE_BYTES;
        if self.waiting.fetch_add(cost, Ordering::Relaxed) > SFTP_WAITING_BYTES_MAX {
            self.fail(io::Error::other("the server sends more than it was asked for"));
            return false;
        }
        self.sender.send(Ok(bytes)).is_ok()
    }

    /// Says why nothing more will come. Without it, the other end has closed.
    pub fn fail(&self, error: io::Error) {
        let _ = self.sender.send(Err(error));
    }
}

/// Where a session takes what came.
pub struct Outlet {
    receiver: mpsc::Receiver<io::Result<Vec<u8>>>,
    waiting: Arc<AtomicUsize>,
}

impl Outlet {
    /// Waits for a piece, as [`Wire::receive`] does.
    ///
    /// # Errors
    /// As [`Wire::receive`].
    pub fn take(&self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        match self.receiver.recv_timeout(limit) {
            Ok(piece) => {
                let bytes = piece?;
                self.waiting.fetch_sub(bytes.len() + PIECE_BYTES, Ordering::Relaxed);
                Ok(Some(bytes))
            }
            Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_order_and_then_the_end() {
        let (inlet, outlet) = queue();
        assert!(inlet.put(b"a".to_vec()) && inlet.put(b"b".to_vec()));
        drop(inlet);

        let limit = Duration::from_secs(1);
        assert_eq!(outlet.take(limit).expect("comes"), Some(b"a".to_vec()));
        assert_eq!(outlet.take(limit).expect("comes"), Some(b"b".to_vec()));
        assert_eq!(outlet.take(limit).expect("ends"), None);
    }

    #[test]
    fn waiting_has_an_end() {
        let (_inlet, outlet) = queue();
        let error = outlet.take(Duration::from_millis(5)).expect_err("nothing came");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_flood_is_cut_off() {
        let (inlet, outlet) = queue();
        let mut taken = 0;
        while inlet.put(vec![0; 1024 * 1024]) {
            taken += 1;
            assert!(taken < 100, "nothing stops it");
        }
        let limit = Duration::from_millis(5);
        let last = (0..200).map(|_| outlet.take(limit)).find(|piece| !matches!(piece, Ok(Some(_))));
        assert!(last.is_some_and(|end| end.is_err_and(|e| e.to_string().contains("asked for"))));
    }
}
