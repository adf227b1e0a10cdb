//! What a receive goes into: memory that is taken when something has arrived, and not before.

use bytes::BytesMut;

use crate::limits::RECEIVE_BYTES;

/// A receive that may wait for long. It holds what is there already and no room for more, so that a
/// silent peer costs no receive buffer: whoever performs it waits until something has arrived, makes
/// the room ([`Receive::room`]) and receives without waiting.
#[derive(Debug)]
pub struct Receive {
    held: BytesMut,
    wanted: usize,
}

impl Receive {
    /// Behind what `buffer` holds; `wanted` is how much may come.
    pub(super) fn new(buffer: BytesMut, wanted: usize) -> Receive {
        // Why a copy: a part of a head stands in a receive buffer of its own, or at the end of one that
        // an earlier message still holds. Longer parts are copied no more than growing them would.
        let held = match buffer.len() {
            0 => BytesMut::new(),
            1..=RECEIVE_BYTES => BytesMut::from(&buffer[..]),
            _ => buffer,
        };
        Receive { held, wanted }
    }

    /// Memory that it holds while it waits, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Something has arrived: the buffer with room behind what it holds.
    pub fn room(self) -> BytesMut {
        let Receive { mut held, wanted } = self;
        if held.capacity() - held.len() < wanted.clamp(1, RECEIVE_BYTES / 4) {
            held.reserve(wanted);
        }
        held
    }

    /// Nothing has come and nothing will: what it held.
    pub fn into_held(self) -> BytesMut {
        self.held
    }
}
