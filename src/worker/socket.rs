//! The few socket calls that the ring does not do.
//!
//! tokio-uring 0.5 gives its sockets out as raw descriptors only; [`borrow`] turns one into a borrowed
//! one, which is what safe wrappers take. One question to the kernel has no safe wrapper, and a buffer is
//! told what was received into its spare room. This is the only unsafe code of the worker.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use bytes::{BufMut, BytesMut};
use rustix::io::Errno;
use rustix::net::RecvFlags;

/// The descriptor of `socket`, for as long as `socket` is borrowed.
fn borrow<S: AsRawFd>(socket: &S) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for at least as long as `socket` lives (tokio-uring closes it in
    // the drop of its last handle), and the result cannot outlive the borrow of `socket`. It is not -1:
    // tokio-uring only makes handles of open sockets.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

/// True when a kept connection may carry another request: open, and nothing unasked has arrived.
pub fn is_quiet<S: AsRawFd>(socket: &S) -> bool {
    let mut byte = [0u8; 1];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(rustix::net::recv(borrow(socket), &mut byte[..], flags), Err(Errno::AGAIN))
}

/// Receives into the spare room of `buffer` what has arrived, without waiting: the bytes, 0 at the
/// peer's end (or without any room), `AGAIN` when nothing has.
pub fn receive<S: AsRawFd>(socket: &S, buffer: &mut BytesMut) -> Result<usize, Errno> {
    let ((received, _), _) =
        rustix::net::recv(borrow(socket), buffer.spare_capacity_mut(), RecvFlags::DONTWAIT)?;
    let bytes = received.len();
    // SAFETY: recv(2) has written that many bytes at the begin of the spare room; rustix gives them
    // out as initialised.
    unsafe { buffer.advance_mut(bytes) };
    Ok(bytes)
}

/// Sends what the kernel takes of `bytes` at once; the rest is dropped.
pub fn send_now<S: AsRawFd>(socket: &S, bytes: &[u8]) {
    if !bytes.is_empty() {
        let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
        let _ = rustix::net::send(borrow(socket), bytes, flags);
    }
}

/// Looks at what has arrived and leaves it there: the count of bytes, 0 at the peer's end, `AGAIN` when
/// nothing has.
pub fn peek<S: AsRawFd>(socket: &S, room: &mut [u8]) -> Result<usize, Errno> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    rustix::net::recv(borrow(socket), room, flags).map(|(_, bytes)| bytes)
}

/// Takes bytes off that [`peek`] has seen; all of `room`, for they are there.
pub fn take<S: AsRawFd>(socket: &S, room: &mut [u8]) -> Result<usize, Errno> {
    rustix::net::recv(borrow(socket), room, RecvFlags::DONTWAIT).map(|(_, bytes)| bytes)
}

/// A poll finds `socket` readable only with so many bytes, or at its end, socket(7) `SO_RCVLOWAT`. Short of
/// memory the kernel may say so before.
pub fn set_readable_bytes<S: AsRawFd>(socket: &S, bytes: usize) {
    let bytes = bytes as std::ffi::c_int;
    // SAFETY: the option is read as one C int from a pointer that is good for this call, and the length
    // says so; the descriptor is an open socket.
    let _ = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
}

/// The address that `socket` was accepted on.
pub fn local_address<S: AsRawFd>(socket: &S) -> Option<SocketAddr> {
    rustix::net::getsockname(borrow(socket)).ok()?.try_into().ok()
}

/// SIOCOUTQ (asm-generic/sockios.h, the number of TIOCOUTQ): bytes of a connection that were handed to
/// the kernel and that the peer has not acknowledged, tcp(7).
const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;

/// Bytes handed to the kernel that the peer has not acknowledged; `None` where it does not say.
pub fn unacknowledged<S: AsRawFd>(socket: &S) -> Option<u64> {
    // SAFETY: this request writes one C int through its pointer and reads nothing, tcp(7).
    let question = unsafe { rustix::ioctl::Getter::<SIOCOUTQ, std::ffi::c_int>::new() };
    // SAFETY: the descriptor is an open socket, for which the number means SIOCOUTQ and nothing else.
    let bytes = unsafe { rustix::ioctl::ioctl(borrow(socket), question) };
    bytes.ok().and_then(|bytes| u64::try_from(bytes).ok())
}

/// Ends one or both ways of a connection; operations of the ring on it complete.
pub fn shutdown<S: AsRawFd>(socket: &S, how: Shutdown) {
    let how = match how {
        Shutdown::Read => rustix::net::Shutdown::Read,
        Shutdown::Write => rustix::net::Shutdown::Write,
        Shutdown::Both => rustix::net::Shutdown::Both,
    };
    // Why the result does not matter: a connection that is already gone has the wanted state.
    let _ = rustix::net::shutdown(borrow(socket), how);
}

/// A connection to `address` that is being made; it is made, or has failed, once the socket can be written:
/// [`fault`] tells.
pub fn connect(address: SocketAddr) -> io::Result<std::net::TcpStream> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
            return Err(error);
        }
        _ => {}
    }
    // Why: on a socket that never waits the ring gives up where it would wait.
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

/// What went wrong with a socket and was not told yet, socket(7) `SO_ERROR`.
pub fn fault<S: AsRawFd>(socket: &S) -> io::Result<()> {
    Ok(rustix::net::sockopt::socket_error(borrow(socket))??)
}

/// A listening socket for one worker. `SO_REUSEPORT` lets every worker have its own; `SO_REUSEADDR`
/// lets a restart bind while old connections time out.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<std::net::TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}
