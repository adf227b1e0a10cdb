//! The client connection itself in the record: told when its first caller is known, and at its end.
//!
//! Anybody can open connections, so one on which nobody was authenticated leaves no entry: it is
//! counted by source and by how it ended, like refusals beyond their rate. One that has a caller is
//! told before its first exchange, and again when it is over; the first entry of each exchange names it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::super::demands::{Demands, LetIn};
use super::super::entries::{self, Connected, Over, time};
use super::super::env::Env;
use super::super::secure::Secured;
use super::outbox::Emission;
use super::{Connection, Phase, Turn};
use crate::record::{Entry, Kind, PartKind};
use crate::types::{ExchangeId, Now, hex};
use crate::wire::head::Method;

/// Why a connection ended: the word of its entry, and that of the count of those without a caller.
type Why = (&'static str, &'static str);

const OPEN: Why = ("cut-by-drain", "connection-cut-by-drain");
const BROKEN: Why = ("client-broke", "connection-client-broke");
const ENDED: Why = ("client-ended", "connection-client-ended");
const ANSWERED: Why = ("closed-after-answer", "connection-closed-after-answer");
const DRAINING: Why = ("draining", "connection-draining");
const IDLE: Why = ("idle", "connection-idle");
const DEMANDS: Why = ("listener-changed", "connection-listener-changed");
const RECORDER: Why = ("recorder-unavailable", "connection-recorder-unavailable");

/// What is known of the connection.
pub(super) struct Life {
    opened: Now,
    /// Boxed: told twice in the life of a connection, and every one that waits would keep room for it.
    local: Option<Box<SocketAddr>>,
    /// Boxed: most have none.
    proxy: Option<Box<SocketAddr>>,
    /// What protects it.
    secured: Option<Box<Protection>>,
    /// What its listener demanded. Boxed: looked at only when something changes.
    let_in: Option<Box<LetIn>>,
    truncated: bool,
    /// Its name in the record, once it has one. Why that of its first exchange: it is made anyway, and nothing
    /// else in the record has it.
    /// In bytes, because that needs the least room.
    id: [u8; ExchangeId::BYTES],
    /// Its connect entry was emitted.
    told: bool,
    /// We have sent our FIN.
    pub(super) shut: bool,
    /// Bytes in the receive buffer when it was handed out.
    pub(super) receiving_from: usize,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    discarded_bytes: u64,
    why: &'static Why,
}

/// TLS on the connection, in the forms in which entries tell it.
struct Protection {
    secured: Secured,
    brief: Arc<str>,
    /// The subject part seen last, and the same with the caller's certificate.
    subject: Option<(Bytes, Bytes)>,
}

impl Life {
    pub(super) fn new(now: Now) -> Life {
        Life {
            opened: now,
            local: None,
            proxy: None,
            secured: None,
            let_in: None,
            truncated: false,
            id: [0; ExchangeId::BYTES],
            told: false,
            shut: false,
            receiving_from: 0,
            received_bytes: 0,
            sent_bytes: 0,
            discarded_bytes: 0,
            why: &OPEN,
        }
    }

    /// Its listener demands now what it did not when the connection began.
    pub(super) fn is_over(&self) -> bool {
        self.let_in.as_ref().is_some_and(|let_in| let_in.is_over())
    }

    /// The connection's name in the record, now that `exchange` begins on it.
    pub(super) fn id(&mut self, exchange: ExchangeId) -> ExchangeId {
        if self.id == [0; ExchangeId::BYTES] {
            self.id = exchange.to_bytes();
        }
        ExchangeId::from_bytes(&self.id)
    }

    /// Version and suite of TLS, where there is any.
    pub(super) fn tls_brief(&self) -> Option<Arc<str>> {
        self.secured.as_ref().map(|protection| protection.brief.clone())
    }

    /// The caller has shown the certificate of this SHA-256.
    pub(super) fn shows(&self, certificate: &[u8; 32]) -> bool {
        let shown = self.secured.as_ref().and_then(|it| it.secured.certificate.as_ref());
        shown.is_some_and(|shown| shown.sha256 == hex(certificate))
    }

    /// The subject part of a caller's entries with the certificate of this connection, where it shows one.
    pub(super) fn subject(&mut self, subject: &Bytes) -> Option<Bytes> {
        let protection = self.secured.as_mut()?;
        let certificate = protection.secured.certificate.as_ref()?;
        // Why kept: a connection is one caller's as a rule, and the text is the same each time.
        Some(match &protection.subject {
            Some((known, with)) if known == subject => with.clone(),
            _ => {
                let with = entries::with_certificate(subject, certificate);
                protection.subject = Some((subject.clone(), with.clone()));
                with
            }
        })
    }

    /// The receive buffer is back with so many bytes in it.
    pub(super) fn received(&mut self, bytes: usize) {
        self.received_bytes += bytes.saturating_sub(self.receiving_from) as u64;
    }
}

impl Connection {
    /// The same connection, accepted on this address.
    pub fn on(mut self, local: Option<SocketAddr>) -> Connection {
        self.life.local = local.map(Box::new);
        self
    }

    /// The same connection, which came through this proxy.
    pub fn through(mut self, proxy: Option<SocketAddr>) -> Connection {
        self.life.proxy = proxy.map(Box::new);
        self
    }

    /// The same connection, let in under these demands of its listener, which the snapshot of this
    /// generation has.
    pub fn under(mut self, demands: Option<Arc<Demands>>, generation: u64) -> Connection {
        self.life.let_in = demands.map(|demands| Box::new(LetIn::new(demands, generation)));
        self
    }

    /// Looks at what the listener demands now. Where the connection would not be let in any more, it ends
    /// behind the exchange that is under way; what has no end of its own is cut.
    pub(super) fn watch_demands(&mut self, turn: &mut Turn<'_>) {
        let Some(let_in) = &mut self.life.let_in else { return };
        let snapshot = &turn.env.snapshot;
        let now = snapshot.settings.demands.get(usize::from(self.listener));
        let_in.look(snapshot.generation, now);
        if !let_in.is_over() {
            return;
        }
        let Some(exchange) = &mut self.exchange else { return };
        exchange.close = true;
        let endless = exchange.http == Method::Get
            || exchange.rpc_method.as_deref() == Some("subscriptions/listen");
        if endless && matches!(self.phase, Phase::Stream { .. }) {
            self.cut(DEMANDS.0, turn);
        }
    }

    /// The same connection, protected by TLS: its handshake is over.
    pub fn secured(mut self, secured: Secured) -> Connection {
        let brief = secured.brief().into();
        self.life.secured = Some(Box::new(Protection { secured, brief, subject: None }));
        self
    }

    /// The client's end came without TLS's word for it.
    pub fn note_truncated(&mut self) {
        self.life.truncated = true;
    }

    fn connected(&self, over: Option<Over>) -> bytes::Bytes {
        let Life { opened, .. } = self.life;
        let connected = Connected {
            connection: ExchangeId::from_bytes(&self.life.id),
            source: &self.source_text,
            proxy: self.life.proxy.as_deref().copied(),
            local: self.life.local.as_deref().copied(),
            opened: time(opened.utc_ns),
            opened_mono_ns: opened.mono_ns,
            tls: match over {
                None => self.life.secured.as_ref().map(|protection| &protection.secured),
                Some(_) => None,
            },
            over,
        };
        connected.part()
    }

    /// A caller is known: from here on the connection is in the record.
    pub(super) fn tell_connect(&mut self, turn: &mut Turn<'_>) {
        if std::mem::replace(&mut self.life.told, true) {
            return;
        }
        let entry = Entry::new(Kind::Connect, turn.now);
        self.emit(Emission::entry(entry.part(PartKind::Detail, self.connected(None))), turn);
    }

    /// The connection is about to be closed: why.
    pub(super) fn note_close(&mut self, turn: &Turn<'_>) {
        if let Phase::Linger { discarded, .. } = self.phase {
            self.life.discarded_bytes = discarded;
        }
        let recorder =
            self.exchange.as_ref().is_some_and(|one| one.outcome == "recorder-unavailable");
        self.life.why = match self.phase {
            _ if recorder => &RECORDER,
            _ if self.client_broken => &BROKEN,
            Phase::Linger { .. } => &ANSWERED,
            _ if self.client_ended => &ENDED,
            _ if turn.env.draining => &DRAINING,
            _ if self.life.is_over() => &DEMANDS,
            _ => &IDLE,
        };
    }

    /// The connection is over and so are its operations. Its last entry, if it was told at all;
    /// otherwise it is counted. `unacknowledged` is what the kernel said before it was closed.
    pub fn farewell(&self, unacknowledged: Option<u64>, now: Now, env: &mut Env) -> Option<Entry> {
        if !self.life.told {
            let limits = &env.snapshot.settings.limits;
            env.refusals.count(self.source, self.life.why.1, now, limits);
            return None;
        }
        // Why: our FIN takes a number behind the last byte, so while anything is unacknowledged it is.
        let unacknowledged_bytes =
            unacknowledged.map(|bytes| bytes.saturating_sub(u64::from(self.life.shut)));
        let over = Over {
            why: self.life.why.0,
            exchanges: self.requests,
            received_bytes: self.life.received_bytes,
            sent_bytes: self.life.sent_bytes,
            unacknowledged_bytes,
            discarded_bytes: self.life.discarded_bytes,
            truncated: self.life.truncated,
            duration_ns: now.mono_ns.saturating_sub(self.life.opened.mono_ns),
        };
        let entry = Entry::new(Kind::Disconnect, now);
        Some(entry.part(PartKind::Detail, self.connected(Some(over))))
    }

    /// The last entry could not be handed over in time: it is counted.
    pub fn farewell_lost(&self, now: Now, env: &mut Env) {
        let limits = &env.snapshot.settings.limits;
        env.refusals.count(self.source, "disconnect-not-recorded", now, limits);
    }
}
