//! The task of one client connection: performs what the machine asks, reports what happened.
//!
//! Boring on purpose: no decision about a message is made here. At most one receive and one send per
//! side are under way; each owns its buffer until it completes. The task ends when the machine is
//! closed and every operation has come back, so that no buffer outlives its connection in the kernel.

use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;
use tokio_uring::net::TcpStream;

use super::core::Worker;
use super::handshake;
use super::pipe::Pipe;
use super::proxied;
use super::socket;
use super::upstream::Upstream;
use crate::gateway::connection::{Action, Connection, Event, ToClient};
use crate::gateway::fault::Fault;
use crate::gateway::metrics::Leg;
use crate::guard::Payload;
use crate::record::SubmitFault;

/// An operation that only an exchange has under way. Boxed, so that a connection that waits does not
/// keep room for it; that costs 20 ns for each.
type Pending<T> = Option<Pin<Box<dyn Future<Output = T>>>>;

/// Completes with the operation, which is then gone. Only to be polled when there is one.
async fn done<T>(pending: &mut Pending<T>) -> T {
    let output = pending.as_mut().expect("an operation is under way").await;
    *pending = None;
    output
}

fn pieces_of(payload: Payload, into: &mut Vec<Bytes>) {
    into.extend(payload.into_iter().filter(|piece| !piece.is_empty()));
}

/// Serves one client connection to its end.
pub async fn serve(worker: Rc<Worker>, stream: TcpStream, source: SocketAddr, listener: u16) {
    // Heads and bodies go out in one operation; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let stream = Rc::new(stream);
    let local = socket::local_address(&*stream);
    let opened = worker.now();
    let settings = worker.settings();
    let (source, proxy) = match settings.proxies.get(usize::from(listener)) {
        Some(Some(proxies)) => {
            match Box::pin(proxied::take(&worker, &stream, source, proxies)).await {
                Some(taken) => (taken.source, taken.proxy),
                None => return,
            }
        }
        _ => (source, None),
    };
    drop(settings);
    let (pipe, secured) = match worker.acceptor(listener) {
        None => (Pipe::plain(stream.clone()), None),
        // Boxed: it is over before anything else begins, and nothing keeps room for it.
        Some(acceptor) => {
            match Box::pin(handshake::accept(&worker, &stream, &acceptor, source)).await {
                Some((pipe, secured)) => (pipe, Some(secured)),
                None => return,
            }
        }
    };
    let pipe = Rc::new(pipe);
    let number = worker.number();
    let progress = worker.progress();
    let mut connection = Connection::new(source, listener, opened).on(local).through(proxy);
    if let Some(secured) = secured {
        connection = connection.secured(secured);
    }
    let mut unacknowledged = None;
    let mut upstream: Option<Upstream> = None;
    let mut event = Event::Wake;

    let mut client_read = pin!(None);
    let mut client_send: Pending<(io::Result<()>, u64)> = None;
    let mut upstream_open: Pending<Result<Upstream, Fault>> = None;
    let mut upstream_read: Pending<(io::Result<usize>, BytesMut)> = None;
    let mut upstream_send: Pending<(io::Result<()>, u64)> = None;
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
                    client_read.set(Some(pipe.clone().receive(into)));
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
                    client_send = Some(Box::pin(pipe.clone().send(pieces)));
                }
                Action::ShutdownClient => pipe.end(Shutdown::Write),
                Action::MeasureClient => measured = Some(socket::unacknowledged(&*stream)),
                Action::CloseClient => {
                    unacknowledged = socket::unacknowledged(&*stream);
                    pipe.end(Shutdown::Both);
                }
                Action::OpenUpstream { route, stream } => {
                    upstream_open = Some(Box::pin(worker.open_upstream(route, stream)));
                }
                Action::SendUpstream(payload) => {
                    let link = upstream.as_ref().expect("the machine sends on an open upstream");
                    let mut pieces = Vec::with_capacity(3);
                    pieces_of(payload.into_inner().into_inner(), &mut pieces);
                    upstream_send = Some(Box::pin(link.pipe.clone().send(pieces)));
                }
                Action::ReadUpstream(into) => {
                    let link = upstream.as_ref().expect("the machine reads from an open upstream");
                    upstream_read = Some(Box::pin(link.pipe.clone().receive(into)));
                }
                Action::DropUpstream { reusable } => {
                    upstream_open = None;
                    if let Some(link) = upstream.take() {
                        let quiet = upstream_read.is_none() && upstream_send.is_none();
                        worker.pools().put(link, reusable && quiet);
                    }
                    // Why it is safe to let go: the connection was shut down, so the kernel completes
                    // the operations; until then the runtime keeps their buffers and the descriptor.
                    upstream_read = None;
                    upstream_send = None;
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
            // A timer that is too early wakes once for nothing; moving it for every event costs more.
            if at < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(at);
            }
        }
        let waits_for_record = connection.waits_for_record();
        let mut asked_for_room = false;
        event = tokio::select! {
            // Why in this order: a request is taken before its answer comes, and the machine keeps an
            // upstream connection only when it has heard so. Nothing starves: with every event the
            // machine looks at the time, the snapshot and the record.
            biased;
            (result, bytes) = done(&mut upstream_send),
                if upstream_send.is_some() =>
            {
                worker.counters().bytes(Leg::UpstreamOut, bytes);
                match result {
                    Ok(()) => Event::UpstreamSent,
                    Err(_) => Event::UpstreamUnsent,
                }
            }
            (result, bytes) = done(&mut client_send),
                if client_send.is_some() =>
            {
                match result {
                    Ok(()) => Event::ClientSent(bytes),
                    Err(_) => Event::ClientSendBroken(bytes),
                }
            }
            result = done(&mut upstream_open),
                if upstream_open.is_some() =>
            {
                match result {
                    Ok(link) => {
                        let secured = link.secured.clone();
                        upstream = Some(link);
                        match secured {
                            Some(secured) => Event::UpstreamSecured(secured),
                            None => Event::UpstreamReady,
                        }
                    }
                    Err(fault) => Event::UpstreamRefused(fault),
                }
            }
            (result, buffer) = done(&mut upstream_read),
                if upstream_read.is_some() =>
            {
                match result {
                    Ok(0) => Event::UpstreamEnd(buffer),
                    Ok(bytes) => {
                        worker.counters().bytes(Leg::UpstreamIn, bytes as u64);
                        Event::UpstreamBytes(buffer)
                    }
                    Err(error) => {
                        if let Some(link) = &upstream {
                            worker.tell_upstream_tls(&link.name, &error);
                        }
                        Event::UpstreamBroken
                    }
                }
            }
            (result, buffer) = async { client_read.as_mut().as_pin_mut().unwrap().await },
                if client_read.is_some() =>
            {
                client_read.set(None);
                match result {
                    Ok(0) => Event::ClientEnd(buffer),
                    Ok(bytes) => {
                        worker.counters().bytes(Leg::ClientIn, bytes as u64);
                        Event::ClientBytes(buffer)
                    }
                    Err(_) => Event::ClientBroken,
                }
            }
            () = std::future::poll_fn(|context| {
                // The turn that ends before this wait has seen the record as it was; a receipt that
                // came since is seen here, one that comes later wakes the task.
                let receipt = connection.waits_for();
                match receipt {
                    Some((ticket, level)) if progress.reached(ticket, level) => Poll::Ready(()),
                    _ if progress.failed() || progress.ended() => Poll::Ready(()),
                    // Room has no receipt that could be looked at: whoever is woken tries again.
                    None if std::mem::replace(&mut asked_for_room, true) => Poll::Ready(()),
                    _ => {
                        worker.receipts().wait(number, receipt, context.waker());
                        Poll::Pending
                    }
                }
            }), if waits_for_record => Event::Wake,
            () = changed.as_mut() => Event::Wake,
            () = timer.as_mut() => Event::Wake,
        };
    }

    worker.receipts().forget(number);
    socket::shutdown(&*stream, Shutdown::Both);
    // Why both at once: under TLS one may wait for what the other holds.
    tokio::join!(
        async {
            if let Some(operation) = &mut client_send {
                let _ = operation.await;
            }
        },
        async {
            if let Some(operation) = client_read.as_mut().as_pin_mut() {
                let _ = operation.await;
            }
        }
    );
    if pipe.was_truncated() {
        connection.note_truncated();
    }
    Box::pin(part(&worker, &connection, unacknowledged)).await;
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
