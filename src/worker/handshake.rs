//! TLS handshakes: done within their time and bytes, verified, and where they fail, told.
//!
//! Nobody is authenticated yet, so what a refused caller can put into the record is bounded as for
//! other refusals before authentication: one by one up to a rate for each source and reason, then as a
//! count. The log has a line for each reason, with why.

use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use rustix::io::Errno;
use tokio::time::{Instant, timeout_at};
use tokio_uring::net::TcpStream;

use super::core::Worker;
use super::pipe::{Pipe, with_ciphertext};
use super::receive::readable;
use super::send::send;
use super::socket;
use super::tls::accept::Acceptor;
use super::tls::session::Session;
use super::tls::why;
use crate::gateway::env::RouteTls;
use crate::gateway::secure::{Secured, TlsFault};
use crate::limits::Limits;

/// What a client gets that speaks plain HTTP to a port with TLS. Constant text: nobody is known, and
/// nothing of what came is in it.
const PLAIN_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Content-Length: 40\r\nConnection: close\r\n\r\nThis port speaks TLS: use https, please\n";

/// Why a handshake came to nothing.
pub struct Refused {
    /// In one word.
    pub fault: TlsFault,
    /// In the words of the TLS library, where it said anything.
    pub why: Option<String>,
    /// The peer ended the connection without having sent a byte: it only looked whether the port is open.
    looked: bool,
}

impl Refused {
    fn new(fault: TlsFault) -> Refused {
        Refused { fault, why: None, looked: false }
    }

    /// The peer ended after so many bytes.
    fn ended(received: u64) -> Refused {
        Refused { looked: received == 0, ..Refused::new(TlsFault::Ended) }
    }

    fn because(error: &rustls::Error) -> Refused {
        Refused { why: Some(error.to_string()), ..Refused::new(why::fault(error)) }
    }
}

/// Exchanges handshake messages until the handshake is over. What the peer sent behind it is not taken.
async fn shake(
    stream: &Rc<TcpStream>,
    session: &mut Session,
    limits: &Limits,
) -> Result<(), Refused> {
    let mut received = 0u64;
    loop {
        let mut out = BytesMut::new();
        if session.output(&mut out) {
            let (result, _) = send(stream.clone(), vec![out.freeze()]).await;
            result.map_err(|_| Refused::new(TlsFault::Ended))?;
        }
        if !session.is_handshaking() {
            return Ok(());
        }
        readable(stream).await.map_err(|_| Refused::ended(received))?;
        let taken = with_ciphertext(stream, |ciphertext| {
            let first = received == 0;
            let mut used = 0;
            // Why record by record: what stands behind the handshake is not of it, and stays where it is.
            while used < ciphertext.len() && session.is_handshaking() {
                let rest = &ciphertext[used..];
                let next = session.of_this_record(rest);
                used += next;
                received += next as u64;
                if received > limits.tls_handshake_bytes_max {
                    return (used, Err(Refused::new(TlsFault::TooLong)));
                }
                if let Err(error) = session.input(&rest[..next], |_| {}) {
                    let mut refused = Refused::because(&error);
                    if first && refused.fault == TlsFault::NotTls && why::is_plain_http(ciphertext)
                    {
                        refused.fault = TlsFault::PlainHttp;
                    }
                    return (ciphertext.len(), Err(refused));
                }
            }
            (used, Ok(()))
        });
        match taken {
            Ok(Some(result)) => result?,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(None) | Err(_) => return Err(Refused::ended(received)),
        }
    }
}

/// Lets the peer read the alert, or the answer, before the connection is gone: a socket that is closed
/// with bytes unread resets the connection.
async fn linger(stream: &Rc<TcpStream>, limits: &Limits) {
    socket::shutdown(&**stream, Shutdown::Write);
    let until = Instant::now() + Duration::from_millis(limits.linger_ms_max);
    let mut discarded = 0;
    while discarded <= limits.linger_bytes_max {
        match timeout_at(until, readable(stream)).await {
            Ok(Ok(())) => {}
            _ => break,
        }
        match with_ciphertext(stream, |bytes| (bytes.len(), bytes.len())) {
            Ok(Some(bytes)) => discarded += bytes as u64,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(None) | Err(_) => break,
        }
    }
    socket::shutdown(&**stream, Shutdown::Both);
}

/// Does the handshake with a client. `None` when it failed: that is told, and the connection is over.
pub async fn accept(
    worker: &Worker,
    stream: &Rc<TcpStream>,
    acceptor: &Acceptor,
    source: SocketAddr,
) -> Option<(Pipe, Secured)> {
    let limits = worker.limits();
    let until = Instant::now() + Duration::from_millis(limits.tls_ms_max);
    let result = async {
        let mut session = acceptor.session().map_err(|error| Some(Refused::because(&error)))?;
        let shaken = async {
            shake(stream, &mut session, &limits).await?;
            acceptor.verify_resumed(&session).map_err(|error| Refused::because(&error))
        };
        let result = tokio::select! {
            result = timeout_at(until, shaken) => {
                result.unwrap_or_else(|_| Err(Refused::new(TlsFault::Timeout)))
            }
            // Nothing has begun here that a drain would wait for.
            () = worker.until_drain() => return Err(None),
        };
        match result {
            Ok(()) => {
                let secured = session.secured();
                let secured = secured.map_err(|error| Some(Refused::because(&error)))?;
                Ok((Pipe::secured(stream.clone(), session), secured))
            }
            Err(refused) => {
                let mut out = BytesMut::new();
                session.output(&mut out);
                if refused.fault == TlsFault::PlainHttp {
                    out = BytesMut::from(PLAIN_ANSWER);
                }
                socket::send_now(&**stream, &out);
                Err(Some(refused))
            }
        }
    }
    .await;
    match result {
        Ok(secured) => Some(secured),
        Err(refused) => {
            // Health checks do so all day.
            if refused.as_ref().is_some_and(|refused| refused.looked) {
                worker.count(source, "connection-client-ended");
            } else if let Some(refused) = refused {
                worker.tell_handshake(source, &refused);
                linger(stream, &limits).await;
            }
            None
        }
    }
}

/// Does the handshake with an upstream, within `limits`.
///
/// # Errors
/// Nothing but handshake messages was sent; the connection is of no use.
pub async fn open(
    stream: &Rc<TcpStream>,
    tls: &RouteTls,
    limits: &Limits,
) -> Result<(Pipe, Secured), Refused> {
    let until = Instant::now() + Duration::from_millis(limits.tls_ms_max);
    let mut session =
        Session::open(&tls.config, tls.name.clone()).map_err(|error| Refused::because(&error))?;
    let result = match timeout_at(until, shake(stream, &mut session, limits)).await {
        Err(_) => Err(Refused::new(TlsFault::Timeout)),
        Ok(Err(refused)) => Err(refused),
        Ok(Ok(())) => match session.secured() {
            Ok(secured) => return Ok((Pipe::secured(stream.clone(), session), secured)),
            Err(error) => Err(Refused::because(&error)),
        },
    };
    let mut out = BytesMut::new();
    session.output(&mut out);
    socket::send_now(&**stream, &out);
    socket::shutdown(&**stream, Shutdown::Both);
    result
}
