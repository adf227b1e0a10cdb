//! Which exchanges are asked for, and times as people type them.

use super::rows::Row;
use crate::record::skip::{Asked, Question};
use crate::types::SessionId;

/// What an exchange must have; `None` asks for nothing. Names match whole; `*` stands for any
/// characters.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// `sub` of the caller.
    pub subject: Option<String>,
    /// `iss` of the caller.
    pub issuer: Option<String>,
    /// Name of the upstream.
    pub upstream: Option<String>,
    /// A tool the call names.
    pub tool: Option<String>,
    /// JSON-RPC method.
    pub method: Option<String>,
    /// A rule that matched in it.
    pub rule: Option<String>,
    /// The strongest decision.
    pub verdict: Option<String>,
    /// First entry at this time or later, UTC ns.
    pub since_ns: Option<u64>,
    /// First entry before this time, UTC ns.
    pub until_ns: Option<u64>,
    /// The session.
    pub session: Option<SessionId>,
    /// A text in one of its bodies or heads, as it is, JSON-escaped or base64.
    pub text: Option<String>,
}

fn asked(pattern: &Option<String>, value: Option<&str>) -> bool {
    match pattern {
        None => true,
        Some(pattern) => value.is_some_and(|value| matches(pattern, value)),
    }
}

/// True when `pattern` covers all of `value`.
pub fn matches(pattern: &str, value: &str) -> bool {
    let Some((front, rest)) = pattern.split_once('*') else { return pattern == value };
    let Some(mut value) = value.strip_prefix(front) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match value.find(piece) {
            Some(at) => value = &value[at + piece.len()..],
            None => return false,
        }
    }
    value.ends_with(last)
}

impl Filter {
    /// What an index can be asked so that a segment without an answer holds no such exchange. Issuer,
    /// upstream, method, verdict and text stand in no index.
    pub fn asked(&self) -> Asked<'_> {
        let mut questions: Vec<Question<'_>> = Vec::new();
        if let Some(subject) = &self.subject {
            let asked = |value: &String| matches(subject, value);
            questions.push(Box::new(move |index| index.subjects.may_hold(asked)));
        }
        if let Some(tool) = &self.tool {
            let asked = |value: &String| matches(tool, value);
            questions.push(Box::new(move |index| index.targets.may_hold(asked)));
        }
        if let Some(rule) = &self.rule {
            let asked = |value: &String| matches(rule, value);
            questions.push(Box::new(move |index| index.rules.may_hold(asked)));
        }
        if let Some(since) = self.since_ns {
            let asked = move |(_, last)| last >= since;
            questions.push(Box::new(move |index| index.times_ns.is_some_and(asked)));
        }
        if let Some(until) = self.until_ns {
            let asked = move |(first, _)| first < until;
            questions.push(Box::new(move |index| index.times_ns.is_some_and(asked)));
        }
        if let Some(session) = self.session {
            questions.push(Box::new(move |index| index.sessions.may_name(&session)));
        }
        Asked { questions, exchanges: true }
    }

    /// True when `row` is asked for.
    pub fn takes(&self, row: &Row) -> bool {
        asked(&self.subject, row.subject.subject.as_deref())
            && asked(&self.issuer, row.subject.issuer.as_deref())
            && asked(&self.upstream, row.subject.upstream.as_deref())
            && asked(&self.method, row.method.as_deref())
            && asked(&self.verdict, row.verdict.as_deref())
            && self.tool.as_ref().is_none_or(|tool| {
                let mut tools = row.targets.iter().filter(|target| target.kind == "tool");
                tools.any(|target| matches(tool, &target.name))
            })
            && self
                .rule
                .as_ref()
                .is_none_or(|rule| row.rules.iter().any(|seen| matches(rule, seen)))
            && self.since_ns.is_none_or(|since| row.first_ns >= since)
            && self.until_ns.is_none_or(|until| row.first_ns < until)
            && self.session.is_none_or(|session| row.session == Some(session))
            && (self.text.is_none() || row.matched)
    }
}

/// A time as it is typed: RFC 3339 (`2026-11-22T08:00:00Z`), a date or date and time in UTC, or how
/// long ago (`90s`, `15m`, `2h`, `7d`). UTC ns.
pub fn parse_time(text: &str, now_ns: u64) -> Option<u64> {
    let ns = |time: jiff::Timestamp| u64::try_from(time.as_nanosecond()).ok();
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return ns(time);
    }
    if let Ok(time) = text.parse::<jiff::civil::DateTime>() {
        return ns(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp());
    }
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let ago_ns = digits.parse::<u64>().ok()?.checked_mul(seconds)?.checked_mul(1_000_000_000)?;
    now_ns.checked_sub(ago_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, value, expected) in [
            ("make", "make", true),
            ("make", "makes", false),
            ("make_*", "make_code", true),
            ("*", "", true),
            ("*code*", "make_code_now", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, value), expected, "{pattern} {value}");
        }
    }

    #[test]
    fn times_as_they_are_typed() {
        let now = 1_795_000_000_000_000_000;
        assert_eq!(parse_time("1970-01-01T00:00:01Z", now), Some(1_000_000_000));
        assert_eq!(parse_time("1970-01-02", now), Some(86_400_000_000_000));
        assert_eq!(parse_time("1970-01-01 00:00:02", now), Some(2_000_000_000));
        assert_eq!(parse_time("2m", now), Some(now - 120_000_000_000));
        for bad in ["", "yesterday", "5", "5w", "-3h", "1e3s", "999999999999d"] {
            assert_eq!(parse_time(bad, now), None, "{bad}");
        }
    }
}
