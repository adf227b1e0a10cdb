//! Receiving: wait until something has arrived, then make room for it.
//!
//! The ring waits (`IORING_OP_POLL_ADD`, kernel 5.1) and the bytes are taken with one system call when
//! they are there, so that a connection or stream on which nothing happens holds no receive buffer. A
//! receive on the ring would wait in the same way inside the kernel, but with its buffer.

use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use io_uring::{cqueue, opcode, types};
use rustix::io::Errno;
use tokio_uring::net::TcpStream;
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

use super::socket;
use crate::gateway::connection::Receive;

/// What a poll of the ring says; the events do not matter, the receive that follows tells.
pub struct Polled;

impl OneshotOutputTransform for Polled {
    type Output = io::Result<()>;
    type StoredData = Rc<TcpStream>;

    fn transform_oneshot_output(self, _: Rc<TcpStream>, entry: cqueue::Entry) -> io::Result<()> {
        match entry.result() {
            error @ ..0 => Err(io::Error::from_raw_os_error(-error)),
            _ => Ok(()),
        }
    }
}

/// A poll of the ring that is under way.
pub type Ready = InFlightOneshot<Rc<TcpStream>, Polled>;

/// Waits until a receive from `stream` would not wait: bytes, the peer's end, or an error. The poll
/// keeps the connection open until it completes, also when nobody waits for it any more.
pub fn readable(stream: &Rc<TcpStream>) -> Ready {
    ready_for(stream, libc::POLLIN)
}

/// Waits until a connection that is being made is there, or has failed. The poll keeps it open like that
/// of [`readable`]; a shutdown completes it.
pub fn writable(stream: &Rc<TcpStream>) -> Ready {
    ready_for(stream, libc::POLLOUT)
}

fn ready_for(stream: &Rc<TcpStream>, events: libc::c_short) -> Ready {
    let descriptor = types::Fd(stream.as_raw_fd());
    let poll = opcode::PollAdd::new(descriptor, events as u32).build();
    UnsubmittedOneshot::new(stream.clone(), Polled, poll).submit()
}

/// What was received: the count of bytes, 0 at the peer's end, and the buffer with them.
pub type Received = (io::Result<usize>, BytesMut);

/// Where the bytes go.
enum Into {
    /// Nothing has arrived: no room is made yet.
    Waiting(Receive),
    /// Woken for nothing, the room was made.
    Room(BytesMut),
    Gone,
}

/// Waits until something has arrived and receives it. Written out as a future because a connection that
/// waits is little more than this; what the compiler makes of the same steps is several times as large.
pub struct Receiving {
    stream: Rc<TcpStream>,
    into: Into,
    poll: Option<Ready>,
}

impl Receiving {
    /// Nothing is asked of the ring before it is polled.
    pub fn new(stream: Rc<TcpStream>, into: Receive) -> Receiving {
        Receiving { stream, into: Into::Waiting(into), poll: None }
    }
}

impl Future for Receiving {
    type Output = Received;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Received> {
        let this = &mut *self;
        loop {
            let poll = this.poll.get_or_insert_with(|| readable(&this.stream));
            let result = ready!(Pin::new(poll).poll(context));
            this.poll = None;
            let mut buffer = match (std::mem::replace(&mut this.into, Into::Gone), &result) {
                (Into::Waiting(into), Ok(())) => into.room(),
                (Into::Waiting(into), Err(_)) => into.into_held(),
                (Into::Room(buffer), _) => buffer,
                (Into::Gone, _) => unreachable!("a future is not polled once it is done"),
            };
            if let Err(error) = result {
                return Poll::Ready((Err(error), buffer));
            }
            let received = loop {
                match socket::receive(&*this.stream, &mut buffer) {
                    Err(Errno::INTR) => {}
                    other => break other,
                }
            };
            match received {
                Ok(bytes) => return Poll::Ready((Ok(bytes), buffer)),
                // Woken for nothing, as poll(2) may.
                Err(Errno::AGAIN) => this.into = Into::Room(buffer),
                Err(error) => return Poll::Ready((Err(error.into()), buffer)),
            }
        }
    }
}
