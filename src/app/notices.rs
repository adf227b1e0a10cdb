//! Lines of the log about faults: one for each kind of fault and whose it is, then the count of those that
//! came in the pause. The record has every one of them.
//!
//! Why not one for each kind: a caller who keeps failing would hide the first failure of another.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::app::log;
use crate::gateway::env::{Notice, Whose};
use crate::gateway::fault::Loud;
use crate::worker::sources::source_of;

/// Pause between two lines about the same.
const PAUSE: Duration = Duration::from_secs(10);

/// Bound: kinds and whose they are, told apart within a pause; so many lines can come in one. Beyond them
/// all sources are one.
const APART_MAX: usize = 256;

/// Who has a line of his own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Of {
    /// An IPv4 address, an IPv6 network of 64 bits.
    Source(IpAddr),
    Upstream(Arc<str>),
    All,
}

#[derive(Debug)]
struct Told {
    last: Instant,
    /// Notices since that line.
    more: u64,
}

/// What was told lately.
#[derive(Debug, Default)]
pub struct Notices(HashMap<(&'static str, Of), Told>);

impl Notices {
    /// What the workers call.
    pub fn into_teller(self) -> impl Fn(Notice) + Send + Sync {
        let notices = Mutex::new(self);
        move |notice| {
            let mut notices = notices.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(line) = notices.line(&notice, Instant::now()) {
                line.write();
            }
        }
    }

    /// The line, unless one about the same was said within the pause.
    fn line(&mut self, notice: &Notice, now: Instant) -> Option<log::Line> {
        let disposition = notice.fault.disposition();
        let more = self.more(disposition.label, &notice.whose, now)?;
        let why = notice.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let blame = disposition.blame.as_str();
        let text = format!("{}{why} (fault of the {blame})", disposition.label);
        let mut line = match disposition.loud {
            Loud::Alarm => log::error("fault", text),
            Loud::Quiet | Loud::Notice => log::warn("fault", text),
        };
        line = line
            .field("reason", disposition.label)
            .field("exchange", notice.exchange.map(|id| id.to_string()))
            .field("more", more);
        line = match &notice.whose {
            Whose::Source(source) => line.field("source", source.to_string()),
            Whose::Upstream(name) => line.field("upstream", &**name),
            Whose::Own => line,
        };
        if let Some(broken) = notice.fault.broken() {
            line = line.field("rule", broken.rule).field("at", broken.at);
        }
        if let Some(status) = notice.fault.upstream_status() {
            line = line.field("upstream_status", status);
        }
        Some(line)
    }

    /// How many came since the last line, when it is time for another.
    fn more(&mut self, label: &'static str, whose: &Whose, now: Instant) -> Option<u64> {
        let of = match whose {
            Whose::Source(source) => Of::Source(source_of(*source)),
            Whose::Upstream(name) => Of::Upstream(name.clone()),
            Whose::Own => Of::All,
        };
        let mut key = (label, of);
        let over = |told: &Told| now.duration_since(told.last) >= PAUSE;
        if !self.0.contains_key(&key) && self.0.len() >= APART_MAX {
            self.0.retain(|_, told| !over(told));
            if self.0.len() >= APART_MAX && matches!(key.1, Of::Source(_)) {
                key.1 = Of::All;
            }
        }
        match self.0.get_mut(&key) {
            None => {
                self.0.insert(key, Told { last: now, more: 0 });
                Some(0)
            }
            Some(told) if over(told) => {
                told.last = now;
                Some(std::mem::take(&mut told.more))
            }
            Some(told) => {
                told.more += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::fault::{Fault, UpstreamFault};
    use crate::wire::body::{BodyFault, BodyRule};

    fn from(source: &str) -> Whose {
        Whose::Source(source.parse().unwrap())
    }

    fn of(name: &str) -> Whose {
        Whose::Upstream(name.into())
    }

    // A second caller's wrong certificate had no line while the first one's pause lasted. Checked against the
    // mutant "one pause for each label".
    #[test]
    fn each_source_and_each_upstream_has_its_own_line() {
        let mut notices = Notices::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(notices.more("tls-alert", &from("192.0.2.1"), at(0)), Some(0));
        assert_eq!(notices.more("tls-alert", &from("192.0.2.1"), at(1)), None);
        assert_eq!(notices.more("tls-alert", &from("::ffff:192.0.2.1"), at(1)), None);
        assert_eq!(notices.more("tls-alert", &from("192.0.2.2"), at(1)), Some(0));
        assert_eq!(notices.more("host", &from("192.0.2.1"), at(1)), Some(0));
        assert_eq!(notices.more("host", &from("2001:db8::1"), at(1)), Some(0));
        assert_eq!(notices.more("host", &from("2001:db8::2"), at(1)), None, "the same network");
        assert_eq!(notices.more("upstream-closed", &of("a"), at(1)), Some(0));
        assert_eq!(notices.more("upstream-closed", &of("b"), at(1)), Some(0));
        assert_eq!(notices.more("upstream-closed", &of("b"), at(2)), None);
        assert_eq!(notices.more("tls-alert", &from("192.0.2.1"), at(10)), Some(2));
        assert_eq!(notices.more("tls-alert", &from("192.0.2.1"), at(20)), Some(0));
    }

    #[test]
    fn lines_and_memory_of_a_pause_are_bounded() {
        let mut notices = Notices::default();
        let begin = Instant::now();
        let lines = |notices: &mut Notices, at: u64| {
            let now = begin + Duration::from_secs(at);
            (0..5000u16)
                .filter(|host| {
                    let source = format!("10.0.{}.{}", host >> 8, host & 255);
                    notices.more("host", &from(&source), now).is_some()
                })
                .count()
        };
        assert_eq!(lines(&mut notices, 0), APART_MAX + 1);
        assert_eq!(lines(&mut notices, 5), 0);
        assert!(notices.more("upstream-closed", &of("a"), begin).is_some(), "upstreams are few");
        assert!(lines(&mut notices, 12) <= APART_MAX + 1);
        assert!(notices.0.len() <= APART_MAX + 2);
    }

    #[test]
    fn a_line_names_upstream_rule_and_status() {
        let mut notices = Notices::default();
        let mut line = |fault: Fault, why: Option<String>| {
            let notice = Notice { fault, whose: of("codegen"), exchange: None, why };
            let line = notices.line(&notice, Instant::now()).unwrap();
            line.text(log::Form::Json, jiff::Timestamp::UNIX_EPOCH)
        };
        let status = Fault::Upstream(UpstreamFault::Status(302));
        let text = line(status, Some("upstream codegen: status 302".into()));
        assert!(
            text.contains("upstream-status: upstream codegen: status 302 (fault of the server)")
        );
        assert!(
            text.contains("\"upstream\":\"codegen\"") && text.contains("\"upstream_status\":302")
        );
        let fault = BodyFault { rule: BodyRule::ChunkSize, at: 9 };
        let text = line(Fault::Upstream(UpstreamFault::Body(fault)), None);
        assert!(
            text.contains("\"rule\":\"body-chunk-size\"") && text.contains("\"at\":9"),
            "{text}"
        );
    }
}
