//! Receiving: wait until something has arrived, then make room for it.
//!
//! The ring waits (`IORING_OP_POLL_ADD`, kernel 5.1) and the bytes are taken with one system call when
//! they are there, so that a connection or stream on which nothing happens holds no receive buffer. A
//! receive on the ring would wait in the same way inside the kernel, but with its buffer.

use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use bytes::BytesMut;
use io_uring::{cqueue, opcode, types};
use rustix::io::Errno;
use tokio_uring::net::TcpStream;
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

use super::socket;
use crate::gateway::connection::Receive;

/// What a poll of the ring says; the events do not matter, the receive that follows tells.
struct Polled;

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

/// Waits until a receive from `stream` would not wait: bytes, the peer's end, or an error. The poll
/// keeps the connection open until it completes, also when nobody waits for it any more.
pub async fn readable(stream: &Rc<TcpStream>) -> io::Result<()> {
    let descriptor = types::Fd(stream.as_raw_fd());
    let poll = opcode::PollAdd::new(descriptor, libc::POLLIN as u32).build();
    UnsubmittedOneshot::new(stream.clone(), Polled, poll).submit().await
}

/// Waits until something has arrived and receives it: the count of bytes, 0 at the peer's end, and
/// the buffer with them.
pub async fn receive(stream: Rc<TcpStream>, into: Receive) -> (io::Result<usize>, BytesMut) {
    if let Err(error) = readable(&stream).await {
        return (Err(error), into.into_held());
    }
    let mut buffer = into.room();
    loop {
        match socket::receive(&*stream, &mut buffer) {
            Ok(bytes) => return (Ok(bytes), buffer),
            Err(Errno::INTR) => {}
            // Woken for nothing, as poll(2) may.
            Err(Errno::AGAIN) => {
                if let Err(error) = readable(&stream).await {
                    return (Err(error), buffer);
                }
            }
            Err(error) => return (Err(error.into()), buffer),
        }
    }
}
