//! One TLS connection as a machine without I/O: ciphertext in, plaintext and ciphertext out.
//!
//! Why the buffered interface of rustls and not the unbuffered one: in rustls 0.23 only the former
//! exports keying material, and the record binds a connection to its channel by that. Its buffers are
//! emptied at each call. Of a record that is not whole nothing should come ([`Session::take`]); what
//! comes all the same is kept in front of them, in a buffer as long as the record, because those of rustls
//! double. Handshake messages in the clear go on as they come (`tls_handshake_bytes_max`).

use std::io::{self, BufRead as _, Write as _};
use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, Error, HandshakeKind, PeerMisbehaved, ServerConfig,
    ServerConnection,
};

use super::peer;
use crate::gateway::secure::{Secured, exporter_text};
use crate::limits::{TLS_CIPHERTEXT_BYTES, TLS_RECORD_BYTES};

/// Label of the exporter (RFC 9266 §4.2); its context is empty.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Has nothing to read now.
struct Nothing;

impl io::Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// What is to be done with ciphertext that has arrived.
pub enum Take {
    /// So many bytes of it can be taken.
    Now(usize),
    /// All of it is the begin of one record, which has so many bytes.
    Wait {
        /// Head included.
        whole: usize,
    },
}

/// One end of a TLS connection.
pub struct Session {
    tls: Connection,
    ended: bool,
    edge: Edge,
    /// What has come of a record of data that is not whole.
    held: Vec<u8>,
}

/// Content type of encrypted records (RFC 8446 §5.1).
const APPLICATION_DATA: u8 = 23;

/// Bytes of a record behind its head.
fn length(head: &[u8; 5]) -> usize {
    usize::from(u16::from_be_bytes([head[3], head[4]]))
}

/// The head is one of encrypted data of a length that may be. Why not of others: what is wrong with them is
/// told at their head, whether or not the rest ever comes.
fn may_be_waited_for(head: &[u8; 5]) -> bool {
    let longest = TLS_CIPHERTEXT_BYTES - head.len();
    head[..3] == [APPLICATION_DATA, 3, 3] && (1..=longest).contains(&length(head))
}

/// Follows where records begin and end (RFC 8446 §5.1: type, version, length in five bytes).
#[derive(Debug, Default)]
struct Edge {
    head: [u8; 5],
    /// Bytes of the head that are there.
    have: usize,
    /// Bytes of the record that are still to come, once its head is there.
    left: usize,
}

impl Edge {
    /// Bytes of whole records with which `bytes` begin, where a record begins.
    fn whole_within(&self, bytes: &[u8]) -> usize {
        let mut whole = 0;
        while self.have == 0
            && let Some(head) = bytes[whole..].first_chunk::<5>()
            && let end = whole + head.len() + length(head)
            && end <= bytes.len()
        {
            whole = end;
        }
        whole
    }

    /// What has come is kept until the record is whole.
    fn may_be_held(&self) -> bool {
        self.have < self.head.len() || may_be_waited_for(&self.head)
    }

    /// Bytes of `bytes` up to the end of the record that is under way, or that begins here.
    fn rest_within(&self, bytes: &[u8]) -> usize {
        let mut edge = Edge { head: self.head, have: self.have, left: self.left };
        let head = bytes.len().min(edge.head.len() - edge.have);
        edge.follow(&bytes[..head]);
        match edge.have == edge.head.len() {
            true => bytes.len().min(head + edge.left),
            false => head,
        }
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.have < self.head.len() {
                let taken = bytes.len().min(self.head.len() - self.have);
                self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
                self.have += taken;
                bytes = &bytes[taken..];
                if self.have == self.head.len() {
                    self.left = length(&self.head);
                }
            }
            if self.have == self.head.len() {
                let taken = bytes.len().min(self.left);
                self.left -= taken;
                bytes = &bytes[taken..];
                if self.left == 0 {
                    self.have = 0;
                }
            }
        }
    }
}

impl Session {
    /// The accepting end.
    ///
    /// # Errors
    /// A configuration that rustls does not take.
    pub fn accept(config: &Arc<ServerConfig>) -> Result<Session, Error> {
        Ok(Session::new(ServerConnection::new(config.clone())?.into()))
    }

    /// The connecting end, towards a server that has to be `name`.
    ///
    /// # Errors
    /// A configuration that rustls does not take.
    pub fn open(config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Session, Error> {
        Ok(Session::new(ClientConnection::new(config.clone(), name)?.into()))
    }

    fn new(mut tls: Connection) -> Session {
        // Why: what is encrypted is taken out at once; a limit would cut a message in two.
        tls.set_buffer_limit(None);
        Session { tls, ended: false, edge: Edge::default(), held: Vec::new() }
    }

    /// Takes what came from the peer, all of it; gives the plaintext in it to `plaintext`, piece by
    /// piece. What is to be sent then waits for [`Session::output`], also after an error: the alert.
    ///
    /// # Errors
    /// Of the handshake, or of a record: nothing that comes later on this connection can be trusted.
    pub fn input(
        &mut self,
        mut ciphertext: &[u8],
        mut plaintext: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        while !ciphertext.is_empty() && !self.ended {
            let whole = self.edge.whole_within(ciphertext);
            if whole > 0 {
                self.feed(&ciphertext[..whole], &mut plaintext)?;
                ciphertext = &ciphertext[whole..];
                continue;
            }
            let begun = self.edge.have == self.edge.head.len();
            let (piece, behind) = ciphertext.split_at(self.edge.rest_within(ciphertext));
            ciphertext = behind;
            self.edge.follow(piece);
            if begun && self.held.is_empty() {
                // Of a record that goes on to rustls as it comes.
                self.feed(piece, &mut plaintext)?;
                continue;
            }
            self.held.reserve_exact(piece.len() + self.edge.left);
            self.held.extend_from_slice(piece);
            if self.edge.have == 0 || !self.edge.may_be_held() {
                let held = std::mem::take(&mut self.held);
                self.feed(&held, &mut plaintext)?;
            }
        }
        // Why: rustls gives the memory of a long record back only when it is asked to read on; while it has
        // a part of one, it would make more room instead.
        if self.edge.have == 0 || !self.held.is_empty() {
            let _ = self.tls.read_tls(&mut Nothing);
        }
        Ok(())
    }

    /// Hands over to rustls, and takes out the plaintext.
    fn feed(
        &mut self,
        mut ciphertext: &[u8],
        plaintext: &mut impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        while !ciphertext.is_empty() && !self.ended {
            match self.tls.read_tls(&mut ciphertext) {
                Ok(0) => break,
                Ok(_) => {}
                // What rustls holds is full: a record or handshake message longer than allowed.
                Err(_) => return Err(Error::PeerSentOversizedRecord),
            }
            let state = self.tls.process_new_packets()?;
            let mut waiting = state.plaintext_bytes_to_read();
            while waiting > 0 {
                let mut reader = self.tls.reader();
                let chunk = reader.fill_buf().map_err(|_| Error::General("no plaintext".into()))?;
                let length = chunk.len();
                plaintext(chunk);
                reader.consume(length);
                waiting = waiting.saturating_sub(length.max(1));
            }
            self.ended = state.peer_has_closed();
        }
        Ok(())
    }

    /// Takes out what is to be sent to the peer. True when there was anything.
    pub fn output(&mut self, into: &mut BytesMut) -> bool {
        let before = into.len();
        while self.tls.wants_write() {
            // Writing to memory does not fail.
            if self.tls.write_tls(&mut into.writer()).is_err() {
                break;
            }
        }
        into.len() > before
    }

    /// Something is to be sent to the peer.
    pub fn wants_output(&self) -> bool {
        self.tls.wants_write()
    }

    /// Encrypts one record of at most [`TLS_RECORD_BYTES`] behind what `into` holds.
    ///
    /// # Errors
    /// The connection is over, or its keys are used up.
    pub fn encrypt(&mut self, plaintext: &[u8], into: &mut BytesMut) -> Result<(), Error> {
        debug_assert!(plaintext.len() <= TLS_RECORD_BYTES);
        self.tls.writer().write_all(plaintext).map_err(|_| Error::EncryptError)?;
        self.output(into);
        Ok(())
    }

    /// Says that nothing more will be sent (`close_notify`, RFC 8446 §6.1), behind what `into` holds.
    pub fn close(&mut self, into: &mut BytesMut) {
        self.tls.send_close_notify();
        self.output(into);
    }

    /// How much of `bytes`, which come next, is worth taking: whole records, as long as none has begun.
    pub fn take(&self, bytes: &[u8]) -> Take {
        match self.edge.whole_within(bytes) {
            0 if self.edge.have > 0 => Take::Now(bytes.len()),
            0 => match bytes.first_chunk::<5>() {
                None => Take::Wait { whole: self.edge.head.len() },
                Some(head) if may_be_waited_for(head) => {
                    Take::Wait { whole: head.len() + length(head) }
                }
                Some(_) => Take::Now(bytes.len()),
            },
            whole => Take::Now(whole),
        }
    }

    /// How many of `bytes`, which come next, belong to the record that has begun or begins with them.
    pub fn of_this_record(&self, bytes: &[u8]) -> usize {
        self.edge.rest_within(bytes)
    }

    /// What came ends with a whole record.
    pub fn is_at_edge(&self) -> bool {
        self.edge.have == 0
    }

    /// The handshake is not over.
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// The peer has said that it will send no more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The session was resumed: its peer was verified by an earlier handshake.
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The chain that the peer showed, its own certificate first.
    pub fn peer_chain(&self) -> &[rustls::pki_types::CertificateDer<'static>] {
        self.tls.peer_certificates().unwrap_or_default()
    }

    /// What the record says of the connection.
    ///
    /// # Errors
    /// The handshake is not over.
    pub fn secured(&self) -> Result<Secured, Error> {
        let (Some(version), Some(suite)) =
            (self.tls.protocol_version(), self.tls.negotiated_cipher_suite())
        else {
            return Err(Error::HandshakeNotComplete);
        };
        let version = match version {
            rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2",
            rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => return Err(PeerMisbehaved::SelectedUnusableCipherSuiteForVersion.into()),
        };
        let exporter = self.tls.export_keying_material([0u8; 32], EXPORTER_LABEL, Some(&[])).ok();
        let server_name = match &self.tls {
            Connection::Server(server) => server.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        };
        Ok(Secured {
            version,
            suite: suite.suite().as_str().unwrap_or("unknown"),
            server_name,
            resumed: self.is_resumed(),
            exporter: exporter.as_ref().map(exporter_text),
            certificate: self.peer_chain().first().map(|own| peer::certificate(own)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_encrypted_records_of_a_length_that_may_be_are_waited_for() {
        for (head, waited) in [
            ([23, 3, 3, 0x40, 0x11], true),
            ([23, 3, 3, 0x48, 0], true),
            ([23, 3, 3, 0x48, 1], false),
            ([23, 3, 3, 0, 0], false),
            ([22, 3, 3, 0x40, 0], false),
            ([23, 3, 1, 0x40, 0], false),
            (*b"GET /", false),
        ] {
            assert_eq!(may_be_waited_for(&head), waited, "{head:?}");
        }
    }

    // Mutant: the bytes of a head that came in pieces are counted anew.
    #[test]
    fn however_records_are_cut_their_ends_are_known() {
        let records =
            [&[23, 3, 3, 0, 2, 9, 9][..], &[22, 3, 3, 0, 0], &[23, 3, 3, 1, 0], &[7; 256]].concat();
        let ends = [0, 7, 12, records.len()];
        for piece in 1..=records.len() {
            let mut edge = Edge::default();
            let mut at = 0;
            for bytes in records.chunks(piece) {
                let next = ends.iter().find(|end| **end > at).expect("a record is under way");
                assert_eq!(edge.rest_within(bytes), bytes.len().min(next - at), "{at} of {piece}");
                let whole = ends.iter().rfind(|end| **end <= at + bytes.len());
                let whole = whole.filter(|_| edge.have == 0).map_or(0, |end| end - at);
                assert_eq!(edge.whole_within(bytes), whole, "{at} of {piece}");
                edge.follow(bytes);
                at += bytes.len();
                assert_eq!(edge.have == 0, ends.contains(&at), "{at} in pieces of {piece}");
            }
        }
    }
}
