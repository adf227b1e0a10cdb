//! The task of one client connection: performs what the machine asks, reports what happened.
//!
//! Boring on purpose: no decision about a message is made here. At most one receive and one send per
//! side are under way; each owns its buffer until it completes. The task ends when the machine is
//! closed and every operation has come back, so that no buffer outlives its connection in the kernel.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_uring::net::TcpStream;

use super::core::{Open, Worker};
use super::handshake;
use super::pipe::{Arriving, Pipe};
use super::proxied;
use super::socket;
use super::tls::accept::Acceptor;
use super::upstream::Upstream;
use crate::gateway::connection::{Action, Connection, Event, ToClient};
use crate::gateway::fault::Fault;
use crate::gateway::metrics::Leg;
use crate::guard::Payload;
use crate::record::SubmitFault;

/// An operation that only an exchange has under way. Boxed, so that a connection that waits does not
/// keep room for it; that costs 20 ns for each.
type Pending<T> = Option<Pin<Box<dyn Future<Output = T>>>>;

/// What a send came to: how many bytes the kernel has taken.
type Sent = (io::Result<()>, u64);

/// The operations that are under way for a connection.
#[derive(Default)]
struct Underway {
    client_read: Option<Arriving>,
    client_send: Pending<Sent>,
    upstream_open: Pending<Result<Upstream, Fault>>,
    upstream_read: Option<Pin<Box<Arriving>>>,
    upstream_send: Pending<Sent>,
}

/// What became of an operation, which is then gone; `None` while it goes on, or when there is none.
fn done<F: Future + Unpin>(
    pending: &mut Option<F>,
    context: &mut Context<'_>,
) -> Option<F::Output> {
    match Pin::new(pending.as_mut()?).poll(context) {
        Poll::Ready(output) => {
            *pending = None;
            Some(output)
        }
        Poll::Pending => None,
    }
}

impl Underway {
    /// The first operation that is done, as the machine hears of it.
    fn poll(
        &mut self,
        worker: &Worker,
        upstream: &mut Option<Upstream>,
        context: &mut Context<'_>,
    ) -> Option<Event> {
        if let Some((result, bytes)) = done(&mut self.upstream_send, context) {
            worker.counters().bytes(Leg::UpstreamOut, bytes);
            return Some(match result {
                Ok(()) => Event::UpstreamSent,
                Err(_) => Event::UpstreamUnsent,
            });
        }
        if let Some((result, bytes)) = done(&mut self.client_send, context) {
            return Some(match result {
                Ok(()) => Event::ClientSent(bytes),
                Err(_) => Event::ClientSendBroken(bytes),
            });
        }
        if let Some(result) = done(&mut self.upstream_open, context) {
            return Some(match result {
                Ok(link) => {
                    let secured = link.secured.clone();
                    *upstream = Some(link);
                    secured.map_or(Event::UpstreamReady, Event::UpstreamSecured)
                }
                Err(fault) => Event::UpstreamRefused(fault),
            });
        }
        if let Some((result, buffer)) = done(&mut self.upstream_read, context) {
            return Some(match result {
                // RFC 9112 §9.8: a body that ends with its connection is not whole then. Somebody on the
                // way may have cut it off.
                Ok(0) if upstream.as_ref().is_some_and(|link| link.pipe.was_truncated()) => {
                    Event::UpstreamBroken(buffer)
                }
                Ok(0) => Event::UpstreamEnd(buffer),
                Ok(bytes) => {
                    worker.counters().bytes(Leg::UpstreamIn, bytes as u64);
                    Event::UpstreamBytes(buffer)
                }
                Err(error) => {
                    if let Some(link) = upstream {
                        worker.tell_upstream_tls(&link.name, &error);
                    }
                    Event::UpstreamBroken(buffer)
                }
            });
        }
        let (result, buffer) = done(&mut self.client_read, context)?;
        Some(match result {
            Ok(0) => Event::ClientEnd(buffer),
            Ok(bytes) => {
                worker.counters().bytes(Leg::ClientIn, bytes as u64);
                Event::ClientBytes(buffer)
            }
            Err(_) => Event::ClientBroken,
        })
    }

    /// The client's operations have come back. Why both at once: under TLS one may wait for what the
    /// other holds.
    fn poll_client(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let _ = done(&mut self.client_send, context);
        let _ = done(&mut self.client_read, context);
        match (&self.client_send, &self.client_read) {
            (None, None) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

fn pieces_of(payload: Payload, into: &mut Vec<Bytes>) {
    into.extend(payload.into_iter().filter(|piece| !piece.is_empty()));
}

/// Serves one client connection to its end, in a task of its own.
pub(super) fn serve(
    worker: Rc<Worker>,
    stream: TcpStream,
    source: SocketAddr,
    listener: u16,
    mut open: Open,
) {
    // Heads and bodies go out in one operation; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let stream = Rc::new(stream);
    let opened = worker.now();
    // Why in this order: acceptors are changed first, so that this one asks at least what the snapshot says.
    let snapshot = worker.snapshot();
    let acceptor = worker.acceptor(listener);
    let place = usize::from(listener);
    let demands = snapshot.settings.demands.get(place).cloned();
    let proxied = matches!(snapshot.settings.proxies.get(place), Some(Some(_)));
    if !proxied && !open.is_of(source) {
        return;
    }
    let local = socket::local_address(&*stream);
    let generation = snapshot.generation;
    let connection = move |source| {
        Connection::new(source, listener, opened).on(local).under(demands, generation)
    };
    if !proxied && acceptor.is_none() {
        let pipe = Rc::new(Pipe::plain(stream));
        tokio_uring::spawn(exchanges(worker, pipe, connection(source), open));
        return;
    }
    // Why a task of its own: what stands before the first request takes much room, and is soon over.
    tokio_uring::spawn(async move {
        let proxies = snapshot.settings.proxies.get(place).and_then(Option::as_deref);
        let (source, proxy) = match proxies {
            Some(proxies) => match proxied::take(&worker, &stream, source, proxies).await {
                Some(taken) => (taken.source, taken.proxy),
                None => return,
            },
            None => (source, None),
        };
        // A proxy's own connections are not bounded: it may look whether the port is open as often as it
        // likes.
        if proxy.is_some() && !open.is_of(source) {
            return;
        }
        let connection = connection(source).through(proxy);
        if let Some((pipe, connection)) = enter(&worker, stream, source, acceptor, connection).await
        {
            tokio_uring::spawn(exchanges(worker, Rc::new(pipe), connection, open));
        }
    });
}

/// The handshake, where the listener has one. `None` when the connection is over.
async fn enter(
    worker: &Worker,
    stream: Rc<TcpStream>,
    source: SocketAddr,
    acceptor: Option<Arc<Acceptor>>,
    connection: Connection,
) -> Option<(Pipe, Connection)> {
    match acceptor {
        None => Some((Pipe::plain(stream), connection)),
        Some(acceptor) => {
            let (pipe, secured) = handshake::accept(worker, &stream, &acceptor, source).await?;
            Some((pipe, connection.secured(secured)))
        }
    }
}

/// The exchanges of one connection. What is named here across a wait is kept by every connection that
/// waits.
#[expect(clippy::manual_async_fn, reason = "an `async fn` keeps each of its arguments twice")]
fn exchanges(
    worker: Rc<Worker>,
    pipe: Rc<Pipe>,
    mut connection: Connection,
    open: Open,
) -> impl Future<Output = ()> {
    async move {
        let number = worker.number();
        let mut unacknowledged = None;
        let mut upstream: Option<Upstream> = None;
        let mut event = Event::Wake;
        let mut underway = Underway::default();
        let mut timer = pin!(tokio::time::sleep(Duration::from_secs(3600)));

        loop {
            // Why before the machine runs: what is signalled from here on is seen by the wait below.
            let mut changed = pin!(worker.signals().changed.notified());
            let now = worker.now();
            // Lent by the worker for this turn, so that connections that wait need none of their own.
            let mut actions = worker.actions();
            let deadline_ns = {
                let mut env = worker.env(now);
                connection.input(now, event, &mut env, &mut actions);
                worker.pass_on(&mut env);
                connection.deadline_ns(&env, now)
            };
            let mut measured = None;
            for action in actions.drain(..) {
                match action {
                    Action::ReadClient(into) => {
                        underway.client_read = Some(pipe.clone().receive(into));
                    }
                    Action::SendClient(released) => {
                        let mut pieces = Vec::with_capacity(released.len() * 3);
                        for out in released {
                            match out {
                                ToClient::Payload(payload) => {
                                    pieces_of(payload.into_inner().into_inner(), &mut pieces);
                                }
                                ToClient::Unavailable(text) => pieces.push(text.into_inner()),
                            }
                        }
                        underway.client_send = Some(Box::pin(pipe.clone().send(pieces)));
                    }
                    Action::ShutdownClient => pipe.end(Shutdown::Write),
                    Action::MeasureClient => measured = Some(socket::unacknowledged(pipe.stream())),
                    Action::CloseClient => {
                        unacknowledged = socket::unacknowledged(pipe.stream());
                        pipe.end(Shutdown::Both);
                    }
                    Action::OpenUpstream { route, stream } => {
                        underway.upstream_open =
                            Some(Box::pin(worker.open_upstream(route, stream)));
                    }
                    Action::SendUpstream(payload) => {
                        let link =
                            upstream.as_ref().expect("the machine sends on an open upstream");
                        let mut pieces = Vec::with_capacity(3);
                        pieces_of(payload.into_inner().into_inner(), &mut pieces);
                        underway.upstream_send = Some(Box::pin(link.pipe.clone().send(pieces)));
                    }
                    Action::ReadUpstream(into) => {
                        let link =
                            upstream.as_ref().expect("the machine reads from an open upstream");
                        underway.upstream_read = Some(Box::pin(link.pipe.clone().receive(into)));
                    }
                    Action::UpstreamStreams => {
                        if let Some(link) = &mut upstream {
                            link.streams();
                        }
                    }
                    Action::DropUpstream { reusable } => {
                        underway.upstream_open = None;
                        if let Some(link) = upstream.take() {
                            let quiet = underway.upstream_read.is_none()
                                && underway.upstream_send.is_none();
                            worker.pools().put(link, reusable && quiet);
                        }
                        // Why it is safe to let go: the connection was shut down, so the kernel completes
                        // the operations; until then the runtime keeps their buffers and the descriptor.
                        underway.upstream_read = None;
                        underway.upstream_send = None;
                    }
                }
            }
            worker.actions_back(actions);
            if connection.is_closed() {
                break;
            }
            if let Some(bytes) = measured {
                event = Event::ClientMeasured(bytes);
                continue;
            }

            if let Some(deadline_ns) = deadline_ns {
                let wait = Duration::from_nanos(deadline_ns.saturating_sub(now.mono_ns));
                let at = Instant::now() + wait;
                // A timer that is too early wakes once for nothing; moving it for every event costs
                // more.
                if at < timer.deadline() || timer.is_elapsed() {
                    timer.as_mut().reset(at);
                }
            }
            event = {
                let mut asked_for_room = false;
                poll_fn(|context| {
                    // Why in this order: a request is taken before its answer comes, and the machine
                    // keeps an upstream connection only when it has heard so. Nothing starves: with
                    // every event the machine looks at the time, the snapshot and the record.
                    if let Some(event) = underway.poll(&worker, &mut upstream, context) {
                        return Poll::Ready(event);
                    }
                    if record_goes_on(&worker, number, &connection, &mut asked_for_room, context)
                        || changed.as_mut().poll(context).is_ready()
                        || timer.as_mut().poll(context).is_ready()
                    {
                        return Poll::Ready(Event::Wake);
                    }
                    Poll::Pending
                })
                .await
            };
        }

        worker.receipts().forget(number);
        socket::shutdown(pipe.stream(), Shutdown::Both);
        poll_fn(|context| underway.poll_client(context)).await;
        if pipe.was_truncated() {
            connection.note_truncated();
        }
        Box::pin(part(&worker, &connection, unacknowledged)).await;
        drop(open);
    }
}

/// The record has gone on as far as the connection waits for; otherwise the task is woken then.
fn record_goes_on(
    worker: &Worker,
    number: u64,
    connection: &Connection,
    asked_for_room: &mut bool,
    context: &mut Context<'_>,
) -> bool {
    if !connection.waits_for_record() {
        return false;
    }
    let progress = worker.progress();
    // The turn that ends before this wait has seen the record as it was; a receipt that came since is
    // seen here, one that comes later wakes the task.
    let receipt = connection.waits_for();
    match receipt {
        Some((ticket, level)) if progress.reached(ticket, level) => true,
        _ if progress.failed() || progress.ended() => true,
        // Room has no receipt that could be looked at: whoever is woken tries again.
        None if std::mem::replace(asked_for_room, true) => true,
        _ => {
            worker.receipts().wait(number, receipt, context.waker());
            false
        }
    }
}

/// Pause between two tries of a last entry that finds the writer's queue full.
const PART_PAUSE: Duration = Duration::from_millis(20);

/// The connection's last entry. Until it is taken, or the time for it is over, the connection counts
/// as open: so its record has a bound, too.
async fn part(worker: &Worker, connection: &Connection, unacknowledged: Option<u64>) {
    let until_ns = {
        let limits = &worker.env(worker.now()).snapshot.settings.limits;
        worker.now().after_ms(limits.recorder_ms_max)
    };
    let now = worker.now();
    let mut entry = match connection.farewell(unacknowledged, now, &mut worker.env(now)) {
        Some(entry) => entry,
        None => return,
    };
    loop {
        let now = worker.now();
        {
            let mut env = worker.env(now);
            match env.recorder.submit(entry) {
                Ok(_) => return worker.pass_on(&mut env),
                // No entry may be as large, now or later.
                Err((_, SubmitFault::TooLarge)) => return connection.farewell_lost(now, &mut env),
                Err((back, SubmitFault::Full | SubmitFault::Ended)) => entry = back,
            }
            if now.mono_ns >= until_ns || env.drained {
                return connection.farewell_lost(now, &mut env);
            }
        }
        tokio::time::sleep(PART_PAUSE).await;
    }
}
