//! Why a head was refused, and where.

use std::fmt;

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal, $source:literal;)*) => {
        /// What a head broke.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum HeadRule { $($(#[$doc])* $rule,)* }

        impl HeadRule {
            /// Every rule, in the order of this file.
            pub const ALL: &'static [HeadRule] = &[$(HeadRule::$rule,)*];

            /// The rule's name in records and logs.
            pub fn as_str(self) -> &'static str {
                match self { $(HeadRule::$rule => $name,)* }
            }

            /// Where the rule comes from.
            pub fn source(self) -> &'static str {
                match self { $(HeadRule::$rule => $source,)* }
            }
        }
    };
}

rules! {
    /// Longer than `head_bytes_max`, or not ended by then.
    TooLong = "head-too-long", "head_bytes_max";
    /// More fields than `head_fields_max`.
    TooManyFields = "head-too-many-fields", "head_fields_max";
    /// A target longer than `target_bytes_max`.
    TargetTooLong = "head-target-too-long", "target_bytes_max";
    /// The first line of a request is not method, target and version with one space between.
    RequestLine = "head-request-line", "RFC 9112 §3";
    /// The first line of a response is not version, status and reason.
    StatusLine = "head-status-line", "RFC 9112 §4";
    /// A carriage return without a line feed.
    BareCr = "head-bare-cr", "RFC 9112 §2.2";
    /// A line feed without a carriage return.
    BareLf = "head-bare-lf", "RFC 9112 §2.2";
    /// A control byte, NUL among them.
    ControlByte = "head-control-byte", "RFC 9110 §5.5";
    /// A line that continues the one before.
    ObsFold = "head-obs-fold", "RFC 9112 §5.2";
    /// A field line without a colon, or a name that is no token.
    FieldName = "head-field-name", "RFC 9110 §5.1";
    /// White space between a name and its colon.
    SpaceBeforeColon = "head-space-before-colon", "RFC 9112 §5.1";
    /// Bytes beyond ASCII in a field that frames, routes or identifies.
    FieldBytes = "head-field-bytes", "RFC 9110 §5.5";
    /// A standard method that no MCP transport uses (405).
    MethodNotAllowed = "head-method-not-allowed", "RFC 9110 §15.5.6";
    /// A method that is none (501).
    MethodUnknown = "head-method-unknown", "RFC 9110 §9.1";
    /// HTTP/1.0: no chunked coding, no required Host.
    VersionOld = "head-version-old", "RFC 9112 §2.3";
    /// Any other version.
    Version = "head-version", "RFC 9112 §2.3";
    /// A target in absolute, authority or asterisk form.
    TargetForm = "head-target-form", "RFC 9112 §3.2";
    /// A byte in the target that the URI grammar does not have.
    TargetBytes = "head-target-bytes", "RFC 3986 §3.3";
    /// A percent sign without two hexadecimal digits.
    TargetEscape = "head-target-escape", "RFC 3986 §2.1";
    /// A path whose meaning depends on who normalises it: dot segments, empty segments, or a dot,
    /// slash, backslash or NUL written as an escape.
    TargetSegments = "head-target-segments", "RFC 3986 §6.2.2";
    /// No Host.
    HostMissing = "head-host-missing", "RFC 9112 §3.2";
    /// A Host that is not one host name or address with an optional port.
    HostForm = "head-host-form", "RFC 9110 §7.2";
    /// A field twice that stands once.
    DuplicateField = "head-duplicate-field", "RFC 9110 §5.3";
    /// An `Mcp-` field twice: what routes must be one value.
    DuplicateRouting = "head-duplicate-routing", "MCP 2026-07-28 streamable-http";
    /// A name that becomes a known one when `_` is read as `-`, as CGI-like servers do, or a mirrored
    /// argument (`Mcp-Param-`) that becomes another of the same head so.
    LookAlikeField = "head-look-alike-field", "RFC 3875 §4.1.18";
    /// A Content-Length that is not only digits.
    LengthForm = "head-length-form", "RFC 9112 §6.3";
    /// A Content-Length of more than 19 digits.
    LengthTooLong = "head-length-too-long", "RFC 9112 §6.3";
    /// Content-Length beside Transfer-Encoding.
    LengthWithEncoding = "head-length-with-encoding", "RFC 9112 §6.3";
    /// A Transfer-Encoding other than exactly `chunked`.
    TransferEncoding = "head-transfer-encoding", "RFC 9112 §6.1";
    /// A body framed for a status that has none.
    BodyForbidden = "head-body-forbidden", "RFC 9110 §8.6, RFC 9112 §6.1";
    /// An Expect other than `100-continue`.
    Expect = "head-expect", "RFC 9110 §10.1.1";
    /// An Upgrade: the gateway speaks one protocol.
    Upgrade = "head-upgrade", "RFC 9110 §7.8";
    /// A Connection that names a field meant for the far end.
    ConnectionOption = "head-connection-option", "RFC 9110 §7.6.1";
    /// A Connection that is no list of tokens.
    ConnectionForm = "head-connection-form", "RFC 9110 §7.6.1";
    /// A status outside 100 to 599.
    Status = "head-status", "RFC 9110 §15";
    /// 101, which nobody asked for.
    SwitchingProtocols = "head-switching-protocols", "RFC 9110 §15.2.2";
}

/// A broken rule and the byte that broke it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadFault {
    /// What was broken.
    pub rule: HeadRule,
    /// Offset from the first byte of the head; for what is missing, the head's end.
    pub at: u32,
}

impl fmt::Display for HeadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} ({})", self.rule.as_str(), self.at, self.rule.source())
    }
}

impl std::error::Error for HeadFault {}
