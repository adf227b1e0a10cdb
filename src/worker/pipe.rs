//! A connection as its users see it: plaintext in, plaintext out, whether TLS is between or not.
//!
//! Under TLS the bytes on the socket are ciphertext. Received ciphertext goes through one buffer of the
//! thread, because taking it from the socket does not wait; so a connection on which nothing happens
//! holds no buffer for it. Of a record that has not come whole nothing is taken: it stays with the kernel. What is sent is encrypted record by record in the order in which it is
//! handed over: one task at a time has the right to send, and whatever TLS itself wants to say
//! (tickets, key updates, alerts) goes out by the same hand.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use rustix::io::Errno;
use tokio::sync::Mutex;
use tokio_uring::net::TcpStream;

use super::receive::{Received, Receiving, readable};
use super::send::send;
use super::socket;
use super::tls::session::{Session, Take};
use crate::gateway::connection::Receive;
use crate::limits::{TLS_CIPHERTEXT_BYTES, TLS_RECORD_BYTES};

/// Plaintext that is encrypted before any of it is sent. Bound: of a large answer that the peer does not
/// read no more than a record is held a second time, as ciphertext.
const ENCRYPT_BYTES: usize = TLS_RECORD_BYTES;

/// What a record has beyond its plaintext, at most: header, nonce or type, tag.
const OVERHEAD_BYTES: usize = 64;

thread_local! {
    static CIPHERTEXT: RefCell<Vec<u8>> = RefCell::new(vec![0; TLS_CIPHERTEXT_BYTES]);
}

/// Lends what has arrived on `stream` to `work`, which says how many of the bytes it has used: the others
/// stay with the kernel. `Ok(None)` at the peer's end.
pub(super) fn with_ciphertext<T>(
    stream: &TcpStream,
    work: impl FnOnce(&[u8]) -> (usize, T),
) -> Result<Option<T>, Errno> {
    CIPHERTEXT.with_borrow_mut(|buffer| {
        let seen = socket::peek(stream, buffer)?;
        if seen == 0 {
            return Ok(None);
        }
        let (used, result) = work(&buffer[..seen]);
        if used > 0 {
            socket::take(stream, &mut buffer[..used])?;
        }
        Ok(Some(result))
    })
}

/// Bound: receives at one look at a kept connection. An upstream that sends tickets without end is not
/// listened to for longer; OpenSSL sends two of some 250 bytes.
const QUIET_LOOKS_MAX: usize = 4;

struct Tls {
    session: RefCell<Session>,
    /// Bytes with which the socket counts as readable.
    readable_bytes: Cell<usize>,
    /// The right to send.
    sending: Mutex<()>,
    /// The peer's end came without its word for it.
    truncated: Cell<bool>,
}

/// A connection.
pub struct Pipe {
    stream: Rc<TcpStream>,
    tls: Option<Box<Tls>>,
}

/// A receive that is under way.
pub enum Arriving {
    /// Of bytes.
    Plain(Receiving),
    /// Of records, to be decrypted.
    Secured(Pin<Box<dyn Future<Output = Received>>>),
}

impl Future for Arriving {
    type Output = Received;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Received> {
        match &mut *self {
            Arriving::Plain(receiving) => Pin::new(receiving).poll(context),
            Arriving::Secured(receiving) => receiving.as_mut().poll(context),
        }
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Pipe {
    /// Without TLS.
    pub fn plain(stream: Rc<TcpStream>) -> Pipe {
        Pipe { stream, tls: None }
    }

    /// Under TLS, the handshake being over.
    pub fn secured(stream: Rc<TcpStream>, session: Session) -> Pipe {
        let tls = Tls {
            session: RefCell::new(session),
            readable_bytes: Cell::new(1),
            sending: Mutex::new(()),
            truncated: Cell::new(false),
        };
        Pipe { stream, tls: Some(Box::new(tls)) }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The peer's end came without `close_notify`: somebody on the way may have cut off what it said
    /// last (RFC 8446 §6.1). HTTP framing tells whether anything is missing.
    pub fn was_truncated(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.truncated.get())
    }

    /// Waits until plaintext has arrived and gives it behind what `into` holds: its count, 0 at the
    /// peer's end, and the buffer.
    pub fn receive(self: Rc<Pipe>, into: Receive) -> Arriving {
        match self.tls {
            None => Arriving::Plain(Receiving::new(self.stream.clone(), into)),
            // Boxed: plain connections keep no room for it while they wait.
            Some(_) => Arriving::Secured(Box::pin(self.receive_secured(into))),
        }
    }

    async fn receive_secured(self: Rc<Pipe>, into: Receive) -> Received {
        let tls = self.tls.as_deref().expect("only called under TLS");
        // Who waited before may have left in the middle of a record.
        self.becomes_readable_with(tls, 1);
        loop {
            if tls.session.borrow().has_ended() {
                return (Ok(0), into.into_held());
            }
            if let Err(error) = readable(&self.stream).await {
                return (Err(error), into.into_held());
            }
            let mut plaintext = BytesMut::new();
            let result = with_ciphertext(&self.stream, |ciphertext| {
                let mut session = tls.session.borrow_mut();
                let used = match session.take(ciphertext) {
                    // Why only once: short of memory the kernel wakes us all the same, and then what is there
                    // has to be taken.
                    Take::Wait { whole } if tls.readable_bytes.get() != whole => {
                        self.becomes_readable_with(tls, whole);
                        return (0, None);
                    }
                    Take::Wait { .. } => ciphertext.len(),
                    Take::Now(bytes) => bytes,
                };
                self.becomes_readable_with(tls, 1);
                let taken = &ciphertext[..used];
                (used, Some(session.input(taken, |piece| plaintext.extend_from_slice(piece))))
            });
            let result = match result {
                Ok(Some(None)) => continue,
                Ok(Some(Some(result))) => Ok(Some(result)),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            // Woken for nothing, as poll(2) may.
            if matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
                continue;
            }
            self.speak(tls).await;
            match result {
                Err(error) => return (Err(error.into()), into.into_held()),
                Ok(None) => {
                    tls.truncated.set(true);
                    return (Ok(0), into.into_held());
                }
                // What came before the fault was whole; it is not given on, because who broke the
                // connection may have been the sender.
                Ok(Some(Err(error))) => return (Err(broken(error)), into.into_held()),
                Ok(Some(Ok(()))) if plaintext.is_empty() => {}
                Ok(Some(Ok(()))) => {
                    let mut buffer = into.room();
                    buffer.extend_from_slice(&plaintext);
                    return (Ok(plaintext.len()), buffer);
                }
            }
        }
    }

    /// Sets with how many bytes a wait is over. Why: a record that has not come whole stays with the kernel,
    /// so that who sends slowly makes nobody hold it here.
    fn becomes_readable_with(&self, tls: &Tls, bytes: usize) {
        if tls.readable_bytes.replace(bytes) != bytes {
            socket::set_readable_bytes(&*self.stream, bytes);
        }
    }

    /// Sends what TLS itself has to say, unless somebody is sending: who does takes it along.
    async fn speak(&self, tls: &Tls) {
        let Ok(_right) = tls.sending.try_lock() else { return };
        let _ = self.flush(tls).await;
    }

    async fn flush(&self, tls: &Tls) -> io::Result<()> {
        loop {
            let mut out = BytesMut::new();
            if !tls.session.borrow_mut().output(&mut out) {
                return Ok(());
            }
            send(self.stream.clone(), vec![out.freeze()]).await.0?;
        }
    }

    /// Sends all pieces; gives how many of their bytes the kernel has taken. Under TLS these are the
    /// bytes of whole records: of others the peer can read nothing.
    pub async fn send(self: Rc<Pipe>, pieces: Vec<Bytes>) -> (io::Result<()>, u64) {
        let Some(tls) = &self.tls else { return send(self.stream.clone(), pieces).await };
        let _right = tls.sending.lock().await;
        let mut total = 0;
        let mut rest = pieces.into_iter();
        let mut piece = Bytes::new();
        loop {
            // Plaintext of the records in `out`, and where each of them ends.
            let mut out = BytesMut::new();
            let mut records: Vec<(usize, u64)> = Vec::new();
            let mut taken = 0;
            while taken < ENCRYPT_BYTES {
                let record = match next_record(&mut piece, &mut rest) {
                    Some(record) => record,
                    None => break,
                };
                out.reserve(record.len() + OVERHEAD_BYTES);
                if let Err(error) = tls.session.borrow_mut().encrypt(&record, &mut out) {
                    return (Err(broken(error)), total);
                }
                taken += record.len();
                records.push((out.len(), record.len() as u64));
            }
            if records.is_empty() {
                return (self.flush(tls).await, total);
            }
            let (result, sent) = send(self.stream.clone(), vec![out.freeze()]).await;
            let whole = records.iter().filter(|(end, _)| *end as u64 <= sent);
            total += whole.map(|(_, bytes)| bytes).sum::<u64>();
            if let Err(error) = result {
                return (Err(error), total);
            }
        }
    }

    /// Says that nothing more will be sent, and ends one or both ways.
    pub fn end(&self, how: Shutdown) {
        if let Some(tls) = &self.tls
            && let Ok(_right) = tls.sending.try_lock()
        {
            let mut out = BytesMut::new();
            tls.session.borrow_mut().close(&mut out);
            // Why without waiting: it is a few bytes, and who does not read them learns from the FIN
            // behind them that the connection is over.
            socket::send_now(&*self.stream, &out);
        }
        socket::shutdown(&*self.stream, how);
    }

    /// A kept connection may carry another request: open, and nothing unasked has arrived. What TLS
    /// itself says meanwhile (tickets) is taken and is no answer.
    pub fn is_quiet(&self) -> bool {
        let Some(tls) = &self.tls else { return socket::is_quiet(&*self.stream) };
        let mut session = tls.session.borrow_mut();
        let mut quiet = true;
        for _ in 0..QUIET_LOOKS_MAX {
            let taken = with_ciphertext(&self.stream, |ciphertext| {
                (ciphertext.len(), session.input(ciphertext, |_| quiet = false).is_ok())
            });
            match taken {
                // Half a record may be half an answer that nobody asked for.
                Err(Errno::AGAIN) => return quiet && !session.has_ended() && session.is_at_edge(),
                Err(Errno::INTR) => {}
                Ok(Some(true)) if quiet => {}
                _ => return false,
            }
        }
        false
    }
}

/// The next plaintext for one record: a piece or a part of one; small pieces are put together.
fn next_record(piece: &mut Bytes, rest: &mut std::vec::IntoIter<Bytes>) -> Option<Bytes> {
    while piece.is_empty() {
        *piece = rest.next()?;
    }
    if piece.len() >= TLS_RECORD_BYTES {
        return Some(piece.split_to(TLS_RECORD_BYTES));
    }
    let room = |used: usize, next: &Bytes| used + next.len() <= TLS_RECORD_BYTES;
    if !rest.as_slice().first().is_some_and(|next| room(piece.len(), next)) {
        return Some(std::mem::take(piece));
    }
    let mut joined = BytesMut::from(&piece[..]);
    *piece = Bytes::new();
    while rest.as_slice().first().is_some_and(|next| room(joined.len(), next)) {
        joined.extend_from_slice(&rest.next()?);
    }
    Some(joined.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_records_in_order_and_none_is_too_long() {
        let bytes: Vec<u8> = (0..200_000u32).map(|at| at as u8).collect();
        let all = Bytes::from(bytes);
        for cuts in
            [vec![], vec![1, 2, 3], vec![16_383, 16_384, 16_385, 50_000], vec![100, 100, 199_999]]
        {
            let mut pieces = Vec::new();
            let mut at = 0;
            for cut in cuts.iter().copied().chain([all.len()]) {
                pieces.push(all.slice(at..cut));
                at = cut;
            }
            let mut rest = pieces.into_iter();
            let mut piece = Bytes::new();
            let mut back = Vec::new();
            while let Some(record) = next_record(&mut piece, &mut rest) {
                assert!((1..=TLS_RECORD_BYTES).contains(&record.len()));
                back.extend_from_slice(&record);
            }
            assert_eq!(back, all);
        }
    }
}
