//! Which rule of a lower floor a fault is about, where the rule comes from, and at which byte it was broken:
//! for the record, the log, and the caller whose fault it is.

use super::fault::{Fault, UpstreamFault};

/// A rule of a lower floor, and where it was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// Its name.
    pub rule: &'static str,
    /// Where it comes from: a section of a standard, or the name of a bound.
    pub source: &'static str,
    /// Offset in what the rule is about, in bytes: head, framed body, stream, or message.
    pub at: u64,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {} ({})", self.rule, self.at, self.source)
    }
}

impl Fault {
    /// The rule that a message, its framing or its coding breaks.
    pub fn broken(self) -> Option<Broken> {
        let broken = |rule, source, at: u64| Some(Broken { rule, source, at });
        match self {
            Fault::Head(fault) | Fault::Upstream(UpstreamFault::Head(fault)) => {
                broken(fault.rule.as_str(), fault.rule.source(), fault.at.into())
            }
            Fault::Proxy(fault) => {
                broken(fault.rule.as_str(), fault.rule.source(), fault.at.into())
            }
            Fault::Body(fault) | Fault::Upstream(UpstreamFault::Body(fault)) => {
                broken(fault.rule.as_str(), fault.rule.source(), fault.at)
            }
            Fault::Message(fault) | Fault::Upstream(UpstreamFault::Message(fault)) => {
                broken(fault.rule.as_str(), fault.rule.source(), fault.at.into())
            }
            Fault::EventTooLarge { fault, .. } | Fault::Upstream(UpstreamFault::Events(fault)) => {
                broken(fault.rule.as_str(), fault.rule.source(), fault.at)
            }
            Fault::Upstream(UpstreamFault::Coding(fault)) => {
                broken(fault.rule.as_str(), fault.rule.source(), fault.at)
            }
            _ => None,
        }
    }

    /// What the log says beside the label.
    pub fn why(self) -> Option<String> {
        match self {
            Fault::Upstream(UpstreamFault::Unreachable(kind)) => Some(kind.to_string()),
            Fault::Upstream(UpstreamFault::Status(status)) => Some(format!("status {status}")),
            Fault::HeaderMismatch(field) => Some(field.to_owned()),
            Fault::Version { seen } => Some(
                seen.as_ref()
                    .and_then(|date| std::str::from_utf8(date).ok())
                    .unwrap_or("no date")
                    .to_owned(),
            ),
            Fault::AnswerTooLarge { allowed } | Fault::StreamTooLarge { allowed } => {
                Some(format!("more than {allowed} bytes"))
            }
            Fault::EntryTooLarge { seen, allowed, .. } => {
                Some(format!("{seen} bytes, allowed are {allowed}"))
            }
            _ => self.broken().map(|broken| broken.to_string()),
        }
    }

    /// The status of an upstream that cannot be passed on.
    pub fn upstream_status(self) -> Option<u16> {
        match self {
            Fault::Upstream(UpstreamFault::Status(status)) => Some(status),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::entries::{Decision, Verdict};
    use crate::limits::Limits;
    use crate::types::Direction;
    use crate::wire::body::{BodyFault, BodyRule};
    use crate::wire::coding::{CodingFault, CodingRule};
    use crate::wire::head::{HeadFault, HeadRule};
    use crate::wire::json::JsonRule;
    use crate::wire::mcp::{McpFault, McpRule};
    use crate::wire::proxy::{ProxyFault, ProxyRule};
    use crate::wire::sse::{SseFault, SseRule};

    /// What the record says of the fault.
    fn recorded(fault: Fault) -> serde_json::Value {
        let mut verdict = Verdict::new(Direction::Request, Decision::Refused);
        verdict.refused_for(fault);
        serde_json::from_slice(&verdict.part()).unwrap()
    }

    fn is_told(fault: Fault, rule: &str, source: &str, at: u64) {
        let told = recorded(fault);
        assert_eq!(
            (told["rule"].as_str(), told["at"].as_u64()),
            (Some(rule), Some(at)),
            "{fault:?}"
        );
        assert_eq!(told["rule_source"], source, "{fault:?}");
        let reason = told["reason"].as_str().unwrap();
        if let Fault::Upstream(_) | Fault::EventTooLarge { .. } = fault {
            // What a server does wrong is told the operator, not its callers.
            assert!(reason.starts_with("upstream-") || reason == "answer-too-large", "{fault:?}");
            return;
        }
        let said = fault.message();
        assert!(said.contains(&format!("{rule} at byte {at} ({source})")), "{said}");
    }

    // A refusal for its chunks said neither which rule nor where, one for a server's answer neither.
    // Checked against the mutant "framing has no rule".
    #[test]
    fn every_rule_is_told_by_its_name_with_its_source_and_offset() {
        let at = 77;
        for &rule in HeadRule::ALL {
            let fault = HeadFault { rule, at };
            for fault in [Fault::Head(fault), Fault::Upstream(UpstreamFault::Head(fault))] {
                is_told(fault, rule.as_str(), rule.source(), 77);
            }
        }
        for &rule in BodyRule::ALL {
            let fault = BodyFault { rule, at: 5 << 32 };
            for fault in [Fault::Body(fault), Fault::Upstream(UpstreamFault::Body(fault))] {
                is_told(fault, rule.as_str(), rule.source(), 5 << 32);
            }
        }
        for &rule in SseRule::ALL {
            let fault = SseFault { rule, at: 5 << 32 };
            let allowed = Limits::default().event_bytes_max;
            for fault in [
                Fault::EventTooLarge { fault, allowed },
                Fault::Upstream(UpstreamFault::Events(fault)),
            ] {
                is_told(fault, rule.as_str(), rule.source(), 5 << 32);
            }
        }
        let json = JsonRule::ALL.iter().map(|&rule| McpRule::Json(rule));
        for rule in json.chain(McpRule::ALL.iter().copied()) {
            let fault = McpFault { rule, at, id: None };
            for fault in [Fault::Message(fault), Fault::Upstream(UpstreamFault::Message(fault))] {
                is_told(fault, rule.as_str(), rule.source(), 77);
            }
        }
        for &rule in ProxyRule::ALL {
            is_told(Fault::Proxy(ProxyFault { rule, at }), rule.as_str(), rule.source(), 77);
        }
        for rule in
            [CodingRule::Corrupt, CodingRule::Truncated, CodingRule::Trailing, CodingRule::Ratio]
        {
            let fault = Fault::Upstream(UpstreamFault::Coding(CodingFault { rule, at: 77 }));
            is_told(fault, rule.as_str(), rule.source(), 77);
        }
    }

    #[test]
    fn a_status_is_told_and_what_breaks_no_rule_has_none() {
        let moved = recorded(Fault::Upstream(UpstreamFault::Status(302)));
        assert_eq!(
            (&moved["reason"], &moved["upstream_status"]),
            (&"upstream-status".into(), &302.into())
        );
        let unknown = recorded(Fault::PathUnknown);
        let members: Vec<_> = unknown.as_object().unwrap().keys().collect();
        assert_eq!(members, ["decision", "direction", "reason"]);
    }
}
