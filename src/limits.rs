//! Every bound of the process: value, unit, reason and source, in one place.
//!
//! A bound has a name that is also its key in the `[limits]` table of the configuration, a unit, a
//! default that is safe on the open internet, and a reason. The configuration may lower a bound, never
//! raise or remove it: what is sized by these numbers (memory, see [`Limits::memory_bytes_max`]) then
//! stays an upper bound.

/// One kibibyte.
pub const KIB: u64 = 1024;
/// One mebibyte.
pub const MIB: u64 = 1024 * KIB;

/// What a bound counts; decides how the configuration writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A size in bytes, written `"64KiB"` or as an integer.
    Bytes,
    /// A duration in milliseconds, written `"250ms"` or `"30s"`.
    Milliseconds,
    /// A plain count, written as an integer.
    Count,
}

/// A bound as the configuration sees it.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Key in `[limits]`.
    pub name: &'static str,
    /// Unit of the value.
    pub unit: Unit,
    /// The default, which is also the largest value that is accepted.
    pub default: u64,
    /// The smallest value with which the gateway can still do its work.
    pub least: u64,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $unit:ident = $default:expr, least $least:expr;)*) => {
        /// The bounds in force: defaults, lowered by the configuration.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits { $($(#[$doc])* pub $name: u64,)* }

        impl Default for Limits {
            fn default() -> Self { Limits { $($name: $default,)* } }
        }

        impl Limits {
            /// Every bound with its unit, default and least value, in the order of this file.
            pub const BOUNDS: &'static [Bound] = &[
                $(Bound { name: stringify!($name), unit: Unit::$unit, default: $default, least: $least },)*
            ];

            /// The value of the bound called `name`.
            pub fn get(&self, name: &str) -> Option<u64> {
                match name { $(stringify!($name) => Some(self.$name),)* _ => None }
            }

            /// Lowers the bound called `name`; false when there is no such bound. The caller has
            /// checked `least <= value <= default`.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name { $(stringify!($name) => { self.$name = value; true })* _ => false }
            }
        }

        $(const _: () = {
            let least: u64 = $least;
            assert!(least <= $default);
        };)*
    };
}

limits! {
    /// Request or response head, from the first byte to the empty line. nginx keeps 8 KiB a line and
    /// 32 KiB in all, HAProxy 15 KiB; a bearer token may take 16 KiB by itself.
    head_bytes_max: Bytes = 32 * KIB, least KIB;
    /// Fields in one head (HAProxy 101, Envoy 100).
    head_fields_max: Count = 100, least 16;
    /// Request target.
    target_bytes_max: Bytes = 8 * KIB, least 64;
    /// One request body, which is one JSON-RPC message. The SDKs accept 4 MiB.
    body_bytes_max: Bytes = 4 * MIB, least KIB;
    /// One answer that is a JSON body.
    answer_bytes_max: Bytes = 16 * MIB, least KIB;
    /// How many times as long as its encoded form an answer may become (Envoy refuses above 100).
    decode_ratio_max: Count = 100, least 1;
    /// One event of an event stream: its data, held back until it is judged whole. rmcp reads at most
    /// 16 MiB, the Python SDK 1 MiB.
    event_bytes_max: Bytes = 4 * MIB, least KIB;
    /// Event `id` and event name: they come back in a field (`Last-Event-ID`).
    event_id_bytes_max: Bytes = KIB, least 64;
    /// Nesting of one JSON message. CPython refuses near 1000, serde_json at 128.
    json_depth_max: Count = 64, least 8;
    /// Members of all objects of one message: bounds the duplicate-key check.
    json_members_max: Count = 200_000, least 64;
    /// Targets and task ids of one message of a client: each is judged against the grants, each task id
    /// costs an HMAC and grows by its handle, and all are named in one verdict. Decided: far above what a
    /// client follows at once, and a million of them hold a worker for seconds.
    targets_max: Count = 1024, least 1;
    /// Task ids in one message of a server (`tasks/list`, MCP 2025-11-25): each costs an HMAC, about a
    /// microsecond, and grows by its handle, 36 characters and a third of itself. Pages of the SDKs hold
    /// ten; ten thousand hold a worker no longer than the scan of a megabyte.
    answer_tasks_max: Count = 10_000, least 1;
    /// One member name.
    json_key_bytes_max: Bytes = 4 * KIB, least 64;
    /// Bearer token, before anything in it is decoded.
    token_bytes_max: Bytes = 16 * KIB, least 256;
    /// Longest life (`exp` - `iat`) a token may claim.
    token_life_ms_max: Milliseconds = 24 * 3600 * 1000, least 1000;
    /// Clock difference tolerated between the issuer and this host.
    token_leeway_ms_max: Milliseconds = 30_000, least 0;
    /// Verified tokens remembered by one worker; beyond it the cache is emptied by half.
    token_cache_entries_max: Count = 8192, least 16;
    /// Age of an issuer's key set after which tokens are refused when it cannot be fetched again.
    keys_age_ms_max: Milliseconds = 24 * 3600 * 1000, least 1000;
    /// Age at which a key set is fetched anew in the background.
    keys_fresh_ms_max: Milliseconds = 300_000, least 1000;
    /// Pause between two fetches that unknown key ids may cause, per issuer.
    keys_refetch_ms_min: Milliseconds = 60_000, least 100;
    /// Longest a request waits for a key set to arrive.
    keys_wait_ms_max: Milliseconds = 5_000, least 100;
    /// Key set or discovery document.
    keys_bytes_max: Bytes = MIB, least KIB;
    /// Client connections of the whole process: 10,000 that wait, and room for those that do not.
    connections_max: Count = 12_000, least 1;
    /// Client connections of one source at once: of an IPv4 address, of an IPv6 network of 64 bits; behind a
    /// proxy that is named, of a caller's. As many as of all sources by default, because many callers may
    /// come from one address (NAT, another gateway).
    connections_each_max: Count = 12_000, least 1;
    /// Payload bytes held at once by the whole process, in both directions: bodies being gathered,
    /// judged, waiting for the record or for a slow reader. One caller at one upstream holds no more of it
    /// than it leaves free.
    inflight_bytes_max: Bytes = 256 * MIB, least MIB;
    /// Bytes of an event stream that wait for the record or for a slow reader; beyond it the upstream
    /// is not read on. One event may stand above it.
    stream_ahead_bytes_max: Bytes = MIB, least KIB;
    /// Text of one tool's output schema; a longer one counts as not known. Those of SDKs have a few KiB.
    output_schema_bytes_max: Bytes = 64 * KIB, least 0;
    /// Output schemas of all upstreams together, and by whom they were seen.
    output_schemas_bytes_max: Bytes = 16 * MIB, least 64 * KIB;
    /// Events of one stream that wait because a secret began in one of them and has not ended.
    split_bytes_max: Bytes = 256 * KIB, least KIB;
    /// How long they wait. Token by token a model says a key in less; a person hardly sees it.
    split_ms_max: Milliseconds = 2_000, least 10;
    /// Bytes of pipelined requests that are received ahead of the exchange in progress.
    pipelined_bytes_max: Bytes = 32 * KIB, least KIB;
    /// Requests on one client connection before it is closed (nginx 1000): spreads load over workers.
    connection_requests_max: Count = 100_000, least 1;
    /// Connections to one upstream, of all workers together.
    upstream_connections_max: Count = 256, least 1;
    /// Calls waiting for a connection to one upstream, per worker.
    upstream_queue_max: Count = 1024, least 0;
    /// Idle time after which a kept upstream connection is closed by us; under Node's 5 s default.
    upstream_idle_ms_max: Milliseconds = 4_000, least 100;
    /// Entries waiting for the writer.
    recorder_queue_entries_max: Count = 8192, least 16;
    /// Payload bytes waiting for the writer.
    recorder_queue_bytes_max: Bytes = 64 * MIB, least MIB;
    /// TLS handshake, from accept or connect to its end. A caller far away needs two or three round
    /// trips (nginx 60 s, HAProxy none of its own, Envoy 15 s); who needs longer holds memory.
    tls_ms_max: Milliseconds = 5_000, least 100;
    /// Bytes that a peer may send in one TLS handshake, held before anybody is authenticated: a hello has
    /// 2 KiB with its key shares and 4 KiB with a ticket, and four certificates with RSA keys of 4096 bits
    /// have 8 KiB. By default mbedTLS takes messages of 16 KiB, too; rustls itself takes 64 KiB.
    tls_handshake_bytes_max: Bytes = 16 * KIB, least 4 * KIB;
    /// From the first byte of a head to its end.
    head_ms_max: Milliseconds = 10_000, least 100;
    /// From the head to the end of the body.
    body_ms_max: Milliseconds = 30_000, least 100;
    /// From the head on, before the least rate of a body counts (Apache's mod_reqtimeout 20 s).
    body_grace_ms_max: Milliseconds = 10_000, least 100;
    /// Bytes of a body that must have arrived for each second beyond the grace, from the head on (Apache
    /// 500); 0 asks for none.
    body_rate_bytes_min: Bytes = KIB, least 0;
    /// From the accept to the end of a proxy's header, on listeners that ask for one: a lost packet is
    /// sent again after 3 s (proxy-protocol.txt §2).
    proxy_ms_max: Milliseconds = 5_000, least 100;
    /// Idle client connection between two requests (nginx 75 s).
    idle_ms_max: Milliseconds = 75_000, least 100;
    /// Connecting to an upstream.
    connect_ms_max: Milliseconds = 3_000, least 10;
    /// From the request sent to the head of the answer, and from the head to the end of a JSON body.
    /// Tool calls may take minutes.
    answer_ms_max: Milliseconds = 300_000, least 10;
    /// Longest silence on an event stream; servers send comments every 15 s.
    stream_idle_ms_max: Milliseconds = 900_000, least 100;
    /// One event stream, from its head to its end: as long as a token may live. The client comes back.
    stream_ms_max: Milliseconds = 24 * 3600 * 1000, least 100;
    /// Bytes of one event stream, chunk framing not counted: events that end within it go out, the first
    /// byte beyond it ends the stream.
    stream_bytes_max: Bytes = 64 * 1024 * MIB, least KIB;
    /// Answer of a call whose client has gone (handshake era): read and recorded for at most this long.
    orphan_ms_max: Milliseconds = 60_000, least 0;
    /// Sending to a client that does not read.
    send_ms_max: Milliseconds = 30_000, least 100;
    /// Reading and discarding after a refusal, so that the client sees the answer and not a reset.
    linger_ms_max: Milliseconds = 2_000, least 0;
    /// The same in bytes.
    linger_bytes_max: Bytes = 256 * KIB, least 0;
    /// Longest a call waits for the recorder before it is refused with 503.
    recorder_ms_max: Milliseconds = 10_000, least 10;
    /// From SIGTERM to the seal: open exchanges may end on their own.
    drain_ms_max: Milliseconds = 10_000, least 0;
    /// Refusals before authentication recorded one by one, per source and reason and minute.
    refusals_each_max: Count = 60, least 1;
    /// Distinct sources and reasons counted at once.
    refusals_sources_max: Count = 4096, least 16;
    /// Idle window that stitches exchanges without a stronger link into one session.
    session_idle_ms_max: Milliseconds = 1_800_000, least 1000;
    /// Views (levels of decoding) of one message.
    views_max: Count = 4, least 1;
    /// Bytes of all views of one message, as a multiple of nothing: an absolute bound.
    view_bytes_max: Bytes = 64 * MIB, least KIB;
    /// Findings in one message; more and the message is refused.
    findings_max: Count = 4096, least 1;
    /// Uncompressed bytes after which a zstd frame is closed (64 to 256 KiB).
    frame_bytes_max: Bytes = 256 * KIB, least 64 * KIB;
    /// Compressed bytes after which a segment is sealed.
    segment_bytes_max: Bytes = 256 * MIB, least 64 * KIB;
    /// Age after which a segment is sealed.
    segment_ms_max: Milliseconds = 3_600_000, least 1000;
    /// From a flush to the signed checkpoint over it.
    checkpoint_ms_max: Milliseconds = 100, least 10;
    /// Between two signed checkpoints in silence: about 330 bytes each, 3 MB a day.
    heartbeat_ms_max: Milliseconds = 10_000, least 100;
    /// Between two checkpoints that are published for witnesses: each costs a sync, a request to each
    /// witness, and about 500 bytes for its answer.
    publish_ms_min: Milliseconds = 1_000, least 50;
    /// The same while nothing new is recorded: witnesses then say again that nothing changed.
    publish_silence_ms_max: Milliseconds = 60_000, least 1_000;
    /// Payload bytes of one flush, unless a single entry has more: one write, one mark.
    recorder_batch_bytes_max: Bytes = MIB, least 4 * KIB;
    /// Space kept allocated beside the segments, with which a record on a full disk is still closed: a
    /// batch, and a header, an index (1 MiB at most) and a seal. Service goes on when twice as much is
    /// free.
    reserve_bytes_max: Bytes = 4 * MIB, least 2 * MIB;
}

/// `sub`, `client_id`, `azp`, `jti` of a token: they are compared, recorded and shown. RFC 7519 sets no
/// bound; OpenID Connect Core §2 allows 255 characters for `sub`.
pub const CLAIM_TEXT_BYTES_MAX: usize = 512;

/// The deny file: about 100,000 entries.
pub const DENY_FILE_BYTES_MAX: u64 = 16 * MIB;

/// Time for which one worker remembers that a token is bad: a client that repeats itself costs a hash
/// and not a signature check.
pub const TOKEN_REFUSAL_MS_MAX: u64 = 10_000;

/// A file of certificates of authorities: what systems trust is about 220 KiB.
pub const CA_FILE_BYTES_MAX: u64 = 4 * MIB;

/// Structured content that is held against its schema; longer content counts as of a schema that is not known.
/// Decided: far above what a model reads.
pub const STRUCTURED_BYTES_MAX: usize = 256 * KIB as usize;

/// Trees of such content and of a schema, while one is held against the other, and expressions in it. A tree
/// has up to 100 times the bytes of its text (`{"":0}` takes a node of a map, of 640 bytes); a check compiles at
/// most 64 expressions, of 448 KiB each with what they need to search.
pub const STRUCTURED_TREE_BYTES: usize =
    100 * (STRUCTURED_BYTES_MAX + 64 * KIB as usize) + 64 * 448 * KIB as usize;

/// Window of a zstd frame, as a power of two: 8 MiB (RFC 9659 §3).
pub const DECODE_WINDOW_LOG_MAX: u32 = 23;

/// Header of one log entry. Only fixed fields and commitments stand in it, no payload.
pub const ENTRY_HEADER_BYTES_MAX: usize = 1024;

/// A string id of a JSON-RPC message, as it is written. SDKs send a few dozen bytes at most.
pub const ID_BYTES_MAX: usize = KIB as usize;

/// A method name; the longest of the protocol has 40 bytes.
pub const METHOD_BYTES_MAX: usize = 256;

/// Header of a proxy in version 2 of its protocol, vectors counted. The addresses take 52 bytes; the
/// specification has the first segment of a connection, 536 bytes, in mind.
pub const PROXY_BYTES_MAX: usize = 2 * KIB as usize;

/// Trailer section of one chunked answer: read, judged and dropped.
pub const TRAILER_BYTES_MAX: usize = 8 * KIB as usize;

impl Limits {
    /// Upper bound of the payload memory of the process, in bytes: what is in flight, what waits for
    /// the writer (it holds the same memory, so this term counts only what is no longer in flight),
    /// what each connection may hold ahead of its exchange and for TLS, and the views of each worker.
    pub fn memory_bytes_max(&self, workers: u64) -> u64 {
        // In the worst case each connection holds a head or what is pipelined behind the exchange, a
        // receive buffer towards the upstream, and under TLS a record that the caller does not read and one
        // that has not come whole. One whose handshake is not over holds less, and nothing else.
        let ahead = self.head_bytes_max.max(self.pipelined_bytes_max);
        let tls = TLS_CONNECTION_BYTES + TLS_RECORD_BYTES + TLS_CIPHERTEXT_BYTES;
        let connection = ahead + (RECEIVE_BYTES + tls) as u64;
        self.inflight_bytes_max
            + self.recorder_queue_bytes_max
            + self.output_schemas_bytes_max
            + self.connections_max * connection
            // Views, what stands around units and what was compressed each have their buffer.
            + workers * (STRUCTURED_TREE_BYTES as u64 + 3 * self.view_bytes_max + self.token_cache_entries_max * 2 * KIB)
    }
}

/// Plaintext of one TLS record at most (RFC 8446 §5.1).
pub const TLS_RECORD_BYTES: usize = 16 * KIB as usize;

/// A TLS record of the greatest length with its header: 2048 bytes of expansion are allowed (RFC 5246 §6.2.3).
/// As much is taken from a socket at once, and is held of a record that has not come whole.
pub const TLS_CIPHERTEXT_BYTES: usize = TLS_RECORD_BYTES + 2048 + 5;

/// Keys, certificates and buffers of one TLS connection that waits between two records; 12 to 17 KiB were measured, and a test
/// of `tests/tls.rs` holds it below this.
pub const TLS_CONNECTION_BYTES: usize = 24 * KIB as usize;

/// TLS sessions of callers that may be resumed without a ticket, per listener. About 2 KiB each; beyond it
/// the oldest are forgotten and cost a whole handshake.
pub const TLS_SESSIONS_MAX: usize = 1024;

/// Receive buffer of one read: holds the usual call whole.
pub const RECEIVE_BYTES: usize = 8 * KIB as usize;

/// Pieces of an event stream that wait for the record or for the client, before no more are taken off what
/// the upstream sent. Why: the shortest events are some bytes long, each is an entry, and one upstream must
/// not have the worker for a turn as long as it likes. Ours: a send takes several hundred pieces in one
/// operation.
pub const STREAM_AHEAD_PIECES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_can_be_set_and_read_by_its_name() {
        let mut limits = Limits::default();
        for bound in Limits::BOUNDS {
            assert_eq!(limits.get(bound.name), Some(bound.default), "{}", bound.name);
            assert!(limits.set(bound.name, bound.least));
            assert_eq!(limits.get(bound.name), Some(bound.least));
        }
        assert!(!limits.set("no_such_bound", 1));
    }

    #[test]
    fn the_memory_sum_is_what_tuning_says() {
        assert_eq!(Limits::default().memory_bytes_max(2) / MIB, 2018);
    }
}
