//! Every fault the gateway can meet, and the only place that turns one into an answer.
//!
//! A fault says who is to blame; [`Fault::disposition`] says, in one exhaustive match, with which
//! status or JSON-RPC code it is answered, whether the connection can be trusted afterwards, how loud
//! it is logged and under which label it is counted. No text of a message, token or path of the host
//! ever enters a fault.
//!
//! JSON-RPC codes of our own lie outside -32768..-32000, which JSON-RPC 2.0 §5.1 reserves:
//! -31001 not granted, -31002 blocked by a rule, -31003 over a bound, -31004 upstream failed,
//! -31005 recorder unavailable.

use super::connection::VERSIONS;
use super::secure::TlsFault;
use crate::auth::deny::DenyReason;
use crate::auth::handle::Purpose;
use crate::auth::token::TokenFault;
use crate::guard::GuardFault;
use crate::guard::policy::DenialReason;
use crate::wire::body::BodyFault;
use crate::wire::coding::CodingFault;
use crate::wire::head::{HeadFault, HeadRule};
use crate::wire::mcp::McpFault;
use crate::wire::proxy::ProxyFault;
use crate::wire::sse::SseFault;

/// JSON-RPC code: no grant allows this.
pub const CODE_NOT_GRANTED: i32 = -31001;
/// JSON-RPC code: a rule blocks this message.
pub const CODE_BLOCKED: i32 = -31002;
/// JSON-RPC code: a bound is exceeded.
pub const CODE_OVER_BOUND: i32 = -31003;
/// JSON-RPC code: the upstream server failed.
pub const CODE_UPSTREAM: i32 = -31004;
/// JSON-RPC code: the recorder cannot write.
pub const CODE_RECORDER: i32 = -31005;
/// JSON-RPC code of MCP 2026-07-28: header and body disagree.
pub const CODE_HEADER_MISMATCH: i32 = -32020;

/// JSON-RPC code of MCP 2026-07-28: the version is not spoken here.
pub const CODE_UNSUPPORTED_VERSION: i32 = -32022;

/// JSON-RPC 2.0 §5.1: invalid parameters.
pub const CODE_INVALID_PARAMS: i32 = -32602;

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// What the caller sent.
    Client,
    /// What the MCP server sent, or that it did not.
    Server,
    /// The host: disk, bounds, configuration.
    Operator,
}

impl Blame {
    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Blame::Client => "client",
            Blame::Server => "server",
            Blame::Operator => "operator",
        }
    }
}

/// How the upstream server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamFault {
    /// No connection could be made, for what the system says.
    Unreachable(std::io::ErrorKind),
    /// Connecting took longer than `connect_ms_max`.
    ConnectTimeout,
    /// The answer took longer than `answer_ms_max`.
    AnswerTimeout,
    /// An event stream was silent for longer than `stream_idle_ms_max`.
    StreamTimeout,
    /// The connection ended before the answer was whole. The call may have run; it is not sent again.
    Closed,
    /// The answer head breaks a rule.
    Head(HeadFault),
    /// The answer framing breaks a rule.
    Body(BodyFault),
    /// The event stream breaks a rule.
    Events(SseFault),
    /// The answer is no JSON-RPC message.
    Message(McpFault),
    /// The answer carries another id than the call.
    WrongId,
    /// The answer is neither JSON nor an event stream.
    MediaType,
    /// The answer is encoded although identity was asked for, and the upstream's `decode` does not name
    /// its coding; or an event stream is.
    Encoded,
    /// The answer cannot be decoded within bounds.
    Coding(CodingFault),
    /// A redirect, an upgrade or the upstream's own authentication challenge.
    Status(u16),
    /// The session handle, an event id or an event name of the answer holds what a rule forbids.
    Handle,
    /// No TLS connection could be made. Nothing was sent; there is no falling back to plain.
    Tls(TlsFault),
}

/// Everything that can go wrong with an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The TLS handshake of a client failed; there is nobody who could be answered.
    Handshake(TlsFault),
    /// The request head breaks a rule.
    Head(HeadFault),
    /// The connection does not begin with a proxy's header, or not with one that is believed.
    Proxy(ProxyFault),
    /// The head took longer than `head_ms_max`.
    HeadTimeout,
    /// The request body framing breaks a rule.
    Body(BodyFault),
    /// The body took longer than `body_ms_max`.
    BodyTimeout,
    /// The body arrives more slowly than `body_rate_bytes_min`.
    BodyTooSlow {
        /// The bound, bytes a second.
        least: u64,
    },
    /// No upstream has this path.
    PathUnknown,
    /// The Origin is not in the listener's list.
    OriginForeign,
    /// The Host is no name of the gateway.
    HostForeign,
    /// The method does not fit this path.
    MethodUnfit,
    /// The token is missing or not good.
    Token(TokenFault),
    /// The caller is on the deny list.
    Denied(DenyReason),
    /// The issuer's keys cannot be had, so that no token of it can be judged.
    KeysUnavailable,
    /// A handle that is not the caller's.
    HandleForeign(Purpose),
    /// A POST without Content-Length or Transfer-Encoding.
    LengthMissing,
    /// The body is longer than `body_bytes_max`.
    BodyTooLarge {
        /// Bytes announced or received.
        seen: u64,
        /// The bound.
        allowed: u64,
    },
    /// The body is not `application/json`.
    MediaUnfit,
    /// The body is encoded.
    Encoded,
    /// The body is no single, unambiguous JSON-RPC message.
    Message(McpFault),
    /// A routing field and the body disagree, or one is missing.
    HeaderMismatch(&'static str),
    /// `MCP-Protocol-Version` is no date or one that is not known here, and a routing field is missing.
    Version {
        /// The date that it is; `None` for what is no date.
        seen: Option<[u8; 10]>,
    },
    /// No grant allows it.
    NotGranted(DenialReason),
    /// A rule blocks the request.
    RequestBlocked,
    /// A rule blocks the answer.
    AnswerBlocked,
    /// The answer is masked, its structured content does not fit the tool's schema then, and the rule blocks
    /// what does not.
    AnswerUnfit,
    /// The message exceeds a bound of the scanner.
    Guard(GuardFault),
    /// The answer is longer than its bound.
    AnswerTooLarge {
        /// The bound.
        allowed: u64,
    },
    /// One event of the answer is longer than its bound.
    EventTooLarge {
        /// Which bound, and where in the stream.
        fault: SseFault,
        /// The bound.
        allowed: u64,
    },
    /// The event stream is longer than `stream_bytes_max`.
    StreamTooLarge {
        /// The bound.
        allowed: u64,
    },
    /// The event stream lasts longer than `stream_ms_max`.
    StreamTooOld,
    /// The upstream failed.
    Upstream(UpstreamFault),
    /// The queue for an upstream connection is full, or waiting in it took too long.
    UpstreamBusy,
    /// The payload memory of the process is used up.
    Memory,
    /// The record cannot hold a message: with what is said of it, and with what is sealed, its entry is
    /// longer than one may be. No message within the bounds of the defaults is.
    EntryTooLarge {
        /// Bytes of the entry.
        seen: u64,
        /// The bound.
        allowed: u64,
        /// It is the server's, not the caller's.
        answer: bool,
    },
    /// The recorder cannot write.
    Recorder,
    /// No witness has cosigned the record for longer than is allowed.
    Unwitnessed,
    /// Access ended while the exchange was open.
    AccessEnded,
    /// The process is draining.
    Draining,
}

/// How loud a fault is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loud {
    /// Everyday: counted and recorded.
    Quiet,
    /// Worth a line.
    Notice,
    /// Somebody should look now.
    Alarm,
}

/// What is done about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disposition {
    /// Whose fault.
    pub blame: Blame,
    /// HTTP status when the answer has not begun.
    pub status: u16,
    /// JSON-RPC code, in the body of the answer or in place of the answer.
    pub code: i32,
    /// The client connection cannot be trusted or used any longer.
    pub close: bool,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// How loud it is logged.
    pub loud: Loud,
    /// Label in metrics and reason in the record.
    pub label: &'static str,
}

impl Fault {
    /// The one mapping from faults to answers.
    pub fn disposition(self) -> Disposition {
        use Blame::{Client, Operator, Server};
        use Loud::{Alarm, Notice, Quiet};
        let d = |blame, status, code, close, loud, label| Disposition {
            blame,
            status,
            code,
            close,
            retry_after_s: None,
            loud,
            label,
        };
        let retry = |mut disposition: Disposition| {
            disposition.retry_after_s = Some(1);
            disposition
        };
        match self {
            // Why a notice: whoever was refused sees an alert at most, and the operator has to mend it.
            Fault::Handshake(fault) => d(Client, 400, -32600, true, Notice, fault.caller_label()),
            Fault::Head(fault) => {
                let (status, close) = head_status(fault.rule);
                d(Client, status, -32600, close, Quiet, fault.rule.as_str())
            }
            Fault::Proxy(fault) => d(Client, 400, -32600, true, Notice, fault.rule.as_str()),
            Fault::HeadTimeout => d(Client, 408, -32600, true, Quiet, "head-timeout"),
            Fault::Body(_) => d(Client, 400, -32600, true, Quiet, "body-framing"),
            Fault::BodyTimeout => d(Client, 408, -32600, true, Quiet, "body-timeout"),
            Fault::BodyTooSlow { .. } => d(Client, 408, -32600, true, Quiet, "body-too-slow"),
            Fault::PathUnknown => d(Client, 404, -32600, false, Quiet, "path-unknown"),
            Fault::OriginForeign => d(Client, 403, CODE_NOT_GRANTED, false, Notice, "origin"),
            // RFC 9110 §15.5.20: a request for a name that is not served here.
            Fault::HostForeign => d(Client, 421, CODE_NOT_GRANTED, false, Notice, "host"),
            Fault::MethodUnfit => d(Client, 405, -32600, false, Quiet, "method"),
            Fault::Token(fault) => d(Client, 401, CODE_NOT_GRANTED, false, Quiet, fault.as_str()),
            Fault::Denied(reason) => {
                d(Client, 401, CODE_NOT_GRANTED, false, Notice, reason.by.as_str())
            }
            Fault::KeysUnavailable => {
                retry(d(Operator, 503, CODE_NOT_GRANTED, false, Alarm, "keys-unavailable"))
            }
            Fault::HandleForeign(purpose) => {
                let code = match purpose {
                    Purpose::Session | Purpose::Event | Purpose::LegacySession => CODE_NOT_GRANTED,
                    // What MCP 2026-07-28 has for a task that is not there and for a state that the
                    // server did not make: a caller cannot tell another's from none.
                    Purpose::Task | Purpose::RequestState | Purpose::Unknown => CODE_INVALID_PARAMS,
                };
                d(Client, 404, code, false, Notice, "handle-foreign")
            }
            Fault::LengthMissing => d(Client, 411, -32600, true, Quiet, "length-missing"),
            Fault::BodyTooLarge { .. } => {
                d(Client, 413, CODE_OVER_BOUND, true, Quiet, "body-too-large")
            }
            Fault::MediaUnfit => d(Client, 415, -32600, false, Quiet, "media-type"),
            Fault::Encoded => d(Client, 415, -32600, false, Quiet, "content-encoding"),
            Fault::Message(fault) => {
                d(Client, 400, fault.rule.code(), false, Quiet, fault.rule.as_str())
            }
            Fault::HeaderMismatch(_) => {
                d(Client, 400, CODE_HEADER_MISMATCH, false, Notice, "header-mismatch")
            }
            Fault::Version { .. } => {
                d(Client, 400, CODE_UNSUPPORTED_VERSION, false, Notice, "protocol-version")
            }
            Fault::NotGranted(reason) => {
                d(Client, 200, CODE_NOT_GRANTED, false, Quiet, reason.as_str())
            }
            Fault::RequestBlocked => d(Client, 200, CODE_BLOCKED, false, Notice, "request-blocked"),
            Fault::AnswerBlocked => d(Server, 200, CODE_BLOCKED, false, Notice, "answer-blocked"),
            Fault::AnswerUnfit => d(Server, 200, CODE_BLOCKED, false, Notice, "answer-unfit"),
            Fault::Guard(fault) => d(Client, 200, CODE_OVER_BOUND, false, Notice, fault.as_str()),
            Fault::AnswerTooLarge { .. } | Fault::EventTooLarge { .. } => {
                d(Server, 200, CODE_OVER_BOUND, false, Notice, "answer-too-large")
            }
            Fault::StreamTooLarge { .. } => {
                d(Server, 200, CODE_OVER_BOUND, false, Notice, "stream-too-large")
            }
            Fault::StreamTooOld => d(Server, 200, CODE_OVER_BOUND, false, Quiet, "stream-too-old"),
            Fault::Upstream(fault) => match fault {
                UpstreamFault::ConnectTimeout => {
                    d(Server, 504, CODE_UPSTREAM, false, Notice, "upstream-connect-timeout")
                }
                UpstreamFault::AnswerTimeout => {
                    d(Server, 504, CODE_UPSTREAM, false, Notice, "upstream-timeout")
                }
                UpstreamFault::StreamTimeout => {
                    d(Server, 504, CODE_UPSTREAM, false, Quiet, "upstream-silent")
                }
                UpstreamFault::Unreachable(_) => {
                    d(Server, 502, CODE_UPSTREAM, false, Notice, "upstream-unreachable")
                }
                UpstreamFault::Closed => {
                    d(Server, 502, CODE_UPSTREAM, false, Notice, "upstream-closed")
                }
                UpstreamFault::Head(_) => {
                    d(Server, 502, CODE_UPSTREAM, false, Notice, "upstream-head")
                }
                UpstreamFault::Body(_) => {
                    d(Server, 502, CODE_UPSTREAM, false, Notice, "upstream-framing")
                }
                UpstreamFault::Events(_) => {
                    d(Server, 502, CODE_UPSTREAM, false, Notice, "upstream-events")
                }
                UpstreamFault::Message(_) => {
                    d(Server, 502, CODE_UPSTREAM, false, Notice, "upstream-message")
                }
                UpstreamFault::WrongId => {
                    d(Server, 502, CODE_UPSTREAM, false, Alarm, "upstream-wrong-id")
                }
                UpstreamFault::MediaType => {
                    d(Server, 502, CODE_UPSTREAM, false, Notice, "upstream-media-type")
                }
                UpstreamFault::Encoded => {
                    d(Server, 502, CODE_UPSTREAM, false, Notice, "upstream-encoding")
                }
                UpstreamFault::Coding(_) => {
                    d(Server, 502, CODE_UPSTREAM, false, Notice, "upstream-coding")
                }
                UpstreamFault::Status(_) => {
                    d(Server, 502, CODE_UPSTREAM, false, Notice, "upstream-status")
                }
                UpstreamFault::Handle => {
                    d(Server, 502, CODE_UPSTREAM, false, Notice, "upstream-handle")
                }
                UpstreamFault::Tls(TlsFault::Timeout) => {
                    let label = TlsFault::Timeout.upstream_label();
                    d(Server, 504, CODE_UPSTREAM, false, Notice, label)
                }
                UpstreamFault::Tls(fault) => {
                    d(Server, 502, CODE_UPSTREAM, false, Notice, fault.upstream_label())
                }
            },
            Fault::UpstreamBusy => {
                retry(d(Operator, 503, CODE_UPSTREAM, false, Notice, "upstream-busy"))
            }
            Fault::Memory => retry(d(Operator, 503, CODE_OVER_BOUND, true, Notice, "memory")),
            Fault::EntryTooLarge { answer: false, .. } => {
                d(Client, 413, CODE_OVER_BOUND, false, Notice, "entry-too-large")
            }
            Fault::EntryTooLarge { answer: true, .. } => {
                d(Server, 502, CODE_OVER_BOUND, false, Notice, "entry-too-large")
            }
            Fault::Recorder => retry(d(Operator, 503, CODE_RECORDER, true, Alarm, "recorder")),
            Fault::Unwitnessed => {
                retry(d(Operator, 503, CODE_RECORDER, true, Notice, "unwitnessed"))
            }
            Fault::AccessEnded => d(Client, 401, CODE_NOT_GRANTED, true, Notice, "access-ended"),
            Fault::Draining => retry(d(Operator, 503, CODE_UPSTREAM, true, Quiet, "draining")),
        }
    }

    /// What the caller is told: who refused, where, what was seen and allowed, what to do.
    pub fn message(self) -> String {
        match self {
            Fault::Handshake(fault) => format!("no TLS connection: {fault}"),
            Fault::Head(fault) => format!("the request head breaks {fault}"),
            Fault::Proxy(fault) => format!("the connection was refused: {fault}"),
            Fault::HeadTimeout => "the request head did not arrive in time".into(),
            Fault::Body(fault) => {
                format!("the request body is framed wrongly: {fault}, counted from behind the head")
            }
            Fault::BodyTimeout => "the request body did not arrive in time".into(),
            Fault::BodyTooSlow { least } => format!(
                "the request body arrives too slowly, at least {least} bytes a second are asked for"
            ),
            Fault::PathUnknown => "no MCP server is served at this path".into(),
            Fault::OriginForeign => {
                "this browser origin is not allowed; the gateway's operator can add it to `origins`"
                    .into()
            }
            Fault::HostForeign => {
                "this is not the Host of any server here; the gateway's operator can add it to `hosts`"
                    .into()
            }
            Fault::MethodUnfit => "this method is not served here".into(),
            Fault::Token(fault) => format!("the access token was not accepted: {}", fault.as_str()),
            Fault::Denied(_) => "access was revoked".into(),
            Fault::KeysUnavailable => {
                "the identity provider's keys cannot be fetched; try again later".into()
            }
            Fault::HandleForeign(purpose) => match purpose {
                Purpose::Session | Purpose::Event | Purpose::LegacySession => {
                    "no such session for this caller; start a new one with initialize".into()
                }
                Purpose::Task | Purpose::Unknown => "no such task for this caller".into(),
                Purpose::RequestState => {
                    "this requestState was not given to this caller, or was changed; \
                     call again without it"
                        .into()
                }
            },
            Fault::LengthMissing => "a body needs Content-Length or chunked framing".into(),
            Fault::BodyTooLarge { seen, allowed } => {
                format!("the body is {seen} bytes, allowed are {allowed} (body_bytes_max)")
            }
            Fault::MediaUnfit => "the body must be application/json in UTF-8".into(),
            Fault::Encoded => {
                "an encoded body is not read; send it without Content-Encoding".into()
            }
            Fault::Message(fault) => format!("the message was refused: {fault}"),
            Fault::HeaderMismatch(field) => {
                format!("the field {field} and the body disagree, or one is missing")
            }
            Fault::Version { seen } => format!(
                "MCP-Protocol-Version is {}, known here are {}",
                seen.as_ref()
                    .and_then(|date| std::str::from_utf8(date).ok())
                    .unwrap_or("no date (YYYY-MM-DD)"),
                VERSIONS.join(", ")
            ),
            Fault::NotGranted(reason) => {
                format!("no grant allows this call ({})", reason.as_str())
            }
            Fault::RequestBlocked => {
                "a rule of the gateway blocks this request because of what it holds".into()
            }
            Fault::AnswerBlocked => {
                "a rule of the gateway blocks the server's answer because of what it holds".into()
            }
            Fault::AnswerUnfit => {
                "a rule of the gateway masks the server's answer, and its structured content would \
                 then not fit the tool's output schema"
                    .into()
            }
            Fault::Guard(fault) => format!("the message cannot be inspected: {}", fault.as_str()),
            Fault::AnswerTooLarge { allowed } | Fault::EventTooLarge { allowed, .. } => {
                format!("the server's answer is over the bound of {allowed} bytes")
            }
            Fault::StreamTooLarge { allowed } => {
                format!("the server's stream is over the bound of {allowed} bytes; open a new one")
            }
            Fault::StreamTooOld => "the stream has lasted as long as one may; open a new one".into(),
            Fault::Upstream(fault) => match fault {
                UpstreamFault::Unreachable(_) => "the MCP server cannot be reached".into(),
                UpstreamFault::ConnectTimeout => "the MCP server did not accept in time".into(),
                UpstreamFault::AnswerTimeout => {
                    "the MCP server did not answer in time; the call may have run".into()
                }
                UpstreamFault::StreamTimeout => "the MCP server's stream fell silent".into(),
                UpstreamFault::Closed => {
                    "the MCP server closed the connection before its answer was whole; the call \
                     may have run and is not sent again"
                        .into()
                }
                UpstreamFault::Coding(fault) => {
                    format!("the MCP server's answer cannot be decoded ({})", fault.rule.as_str())
                }
                UpstreamFault::Head(_)
                | UpstreamFault::Body(_)
                | UpstreamFault::Events(_)
                | UpstreamFault::Message(_)
                | UpstreamFault::WrongId
                | UpstreamFault::MediaType
                | UpstreamFault::Encoded
                | UpstreamFault::Status(_)
                | UpstreamFault::Handle => {
                    format!("the MCP server's answer is not usable ({})", self.disposition().label)
                }
                UpstreamFault::Tls(_) => {
                    format!("no safe connection to the MCP server ({})", self.disposition().label)
                }
            },
            Fault::UpstreamBusy => "too many calls to this MCP server; try again later".into(),
            Fault::Memory => {
                "the gateway has no memory left for this message; try again later".into()
            }
            Fault::EntryTooLarge { seen, allowed, answer } => format!(
                "the record cannot hold {}: its entry is {seen} bytes, allowed are {allowed} \
                 (ENTRY_BYTES_MAX); send less at once",
                if answer { "the server's answer" } else { "this message" }
            ),
            Fault::Recorder => {
                "the record cannot be written, so nothing passes; try again later".into()
            }
            Fault::Unwitnessed => {
                "no witness has seen the record for too long, so nothing passes; try again later"
                    .into()
            }
            Fault::AccessEnded => "access ended while the exchange was open".into(),
            Fault::Draining => "the gateway is stopping; try again".into(),
        }
    }

    /// What the error of the answer holds beside its exchange: members of a JSON object, each with a comma
    /// in front.
    pub fn data(self) -> String {
        let Fault::Version { seen } = self else { return String::new() };
        // MCP 2026-07-28, basic/versioning: what a client can go on with.
        let mut data = format!(",\"supported\":{}", serde_json::json!(VERSIONS));
        if let Some(seen) = seen.as_ref().and_then(|date| std::str::from_utf8(date).ok()) {
            data.push_str(&format!(",\"requested\":\"{seen}\""));
        }
        data
    }
}

/// Status of a broken head rule, and whether the connection ends. A head that breaks a rule may mean
/// that the sender and we disagree on where it ends, so nothing behind it is trusted; a whole head that
/// only asks for what is not served is the exception, and even there a body may follow.
fn head_status(rule: HeadRule) -> (u16, bool) {
    let status = match rule {
        HeadRule::TooLong | HeadRule::TooManyFields => 431,
        HeadRule::TargetTooLong => 414,
        HeadRule::MethodNotAllowed => 405,
        HeadRule::MethodUnknown | HeadRule::TransferEncoding => 501,
        HeadRule::VersionOld | HeadRule::Version => 505,
        HeadRule::Expect => 417,
        HeadRule::LengthTooLong => 413,
        HeadRule::RequestLine
        | HeadRule::StatusLine
        | HeadRule::BareCr
        | HeadRule::BareLf
        | HeadRule::ControlByte
        | HeadRule::ObsFold
        | HeadRule::FieldName
        | HeadRule::SpaceBeforeColon
        | HeadRule::FieldBytes
        | HeadRule::TargetForm
        | HeadRule::TargetBytes
        | HeadRule::TargetEscape
        | HeadRule::TargetSegments
        | HeadRule::HostMissing
        | HeadRule::HostForm
        | HeadRule::DuplicateField
        | HeadRule::DuplicateRouting
        | HeadRule::LookAlikeField
        | HeadRule::LengthForm
        | HeadRule::LengthWithEncoding
        | HeadRule::BodyForbidden
        | HeadRule::Upgrade
        | HeadRule::ConnectionOption
        | HeadRule::ConnectionForm
        | HeadRule::Status
        | HeadRule::SwitchingProtocols => 400,
    };
    (status, true)
}

/// The labels of faults that name no rule of a lower floor, for counters.
pub const LABELS: &[&str] = &[
    "head-timeout",
    "body-framing",
    "body-timeout",
    "body-too-slow",
    "path-unknown",
    "origin",
    "host",
    "method",
    "keys-unavailable",
    "handle-foreign",
    "length-missing",
    "body-too-large",
    "media-type",
    "content-encoding",
    "header-mismatch",
    "protocol-version",
    "request-blocked",
    "answer-blocked",
    "answer-unfit",
    "answer-too-large",
    "stream-too-large",
    "stream-too-old",
    "upstream-connect-timeout",
    "upstream-timeout",
    "upstream-silent",
    "upstream-unreachable",
    "upstream-closed",
    "upstream-head",
    "upstream-framing",
    "upstream-events",
    "upstream-message",
    "upstream-wrong-id",
    "upstream-media-type",
    "upstream-encoding",
    "upstream-coding",
    "upstream-status",
    "upstream-handle",
    "upstream-busy",
    "memory",
    "entry-too-large",
    "recorder",
    "unwitnessed",
    "access-ended",
    "draining",
    "denied-subject",
    "denied-client",
    "denied-token",
    "tls-timeout",
    "tls-handshake-too-long",
    "tls-ended",
    "tls-not-tls",
    "tls-plain-http",
    "tls-nothing-in-common",
    "tls-protocol",
    "tls-certificate-missing",
    "tls-certificate-expired",
    "tls-certificate-early",
    "tls-certificate-issuer",
    "tls-certificate-name",
    "tls-certificate-purpose",
    "tls-certificate-bad",
    "tls-alert",
    "tls-broken",
    "upstream-tls-timeout",
    "upstream-tls-handshake-too-long",
    "upstream-tls-ended",
    "upstream-tls-not-tls",
    "upstream-tls-plain-http",
    "upstream-tls-nothing-in-common",
    "upstream-tls-protocol",
    "upstream-tls-certificate-missing",
    "upstream-tls-certificate-expired",
    "upstream-tls-certificate-early",
    "upstream-tls-certificate-issuer",
    "upstream-tls-certificate-name",
    "upstream-tls-certificate-purpose",
    "upstream-tls-certificate-bad",
    "upstream-tls-alert",
    "upstream-tls-broken",
];
