//! What `format` asks of a text: the names of JSON Schema 2020-12 (validation, §7.3) and those that the
//! TypeScript SDK knows beside them. A name that is not known asks nothing.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;

/// Whether `text` has the format called `name`; `regex` is not looked at here.
pub(super) fn is_format(name: &str, text: &str) -> bool {
    match name {
        "date-time" => {
            split_time(text).is_some_and(|(date, time)| is_date(date) && is_time(time, true))
        }
        "iso-date-time" => {
            split_time(text).is_some_and(|(date, time)| is_date(date) && is_time(time, false))
        }
        "date" => is_date(text),
        "time" => is_time(text, true),
        "iso-time" => is_time(text, false),
        "duration" => is_duration(text),
        "email" => is_email(text, false),
        "idn-email" => is_email(text, true),
        "hostname" => is_hostname(text, false),
        "idn-hostname" => is_hostname(text, true),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "uri" | "url" => is_uri(text, true, false),
        "uri-reference" => is_uri(text, false, false),
        "iri" => is_uri(text, true, true),
        "iri-reference" => is_uri(text, false, true),
        "uri-template" => is_template(text),
        "uuid" => is_uuid(text),
        "json-pointer" => is_pointer(text),
        "json-pointer-uri-fragment" => text.strip_prefix('#').is_some_and(is_pointer),
        "relative-json-pointer" => is_relative_pointer(text),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        _ => true,
    }
}

/// `count` digits, as a number.
fn digits(text: &str, count: usize) -> Option<u32> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

fn split_time(text: &str) -> Option<(&str, &str)> {
    let at = text.find(['T', 't', ' '])?;
    Some((&text[..at], &text[at + 1..]))
}

/// RFC 3339 §5.6, `full-date`.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let mut part = |count| digits(parts.next()?, count);
    let (Some(year), Some(month), Some(day)) = (part(4), part(2), part(2)) else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// RFC 3339 §5.6, `full-time`; a leap second wherever one may be.
fn is_time(text: &str, zone_needed: bool) -> bool {
    let at = text.find(['Z', 'z', '+', '-']).unwrap_or(text.len());
    let (time, zone) = text.split_at(at);
    let (clock, fraction) = match time.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (time, None),
    };
    let mut parts = clock.splitn(3, ':');
    let mut part = || digits(parts.next()?, 2);
    let (Some(hour), Some(minute), Some(second)) = (part(), part(), part()) else { return false };
    let zoned = match zone {
        "" => !zone_needed,
        "Z" | "z" => true,
        _ => zone[1..].split_once(':').is_some_and(|(hours, minutes)| {
            digits(hours, 2).is_some_and(|hours| hours < 24)
                && digits(minutes, 2).is_some_and(|minutes| minutes < 60)
        }),
    };
    let counted = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    hour < 24 && minute < 60 && second <= 60 && fraction.is_none_or(counted) && zoned
}

/// RFC 3339 appendix A.
fn is_duration(text: &str) -> bool {
    let Some(text) = text.strip_prefix('P') else { return false };
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    // Parts in the order of `units`, each a count and its unit; how many there are.
    let parts = |mut text: &str, units: &str| -> Option<usize> {
        let (mut count, mut last) = (0, 0);
        while !text.is_empty() {
            let at = text.bytes().position(|byte| !byte.is_ascii_digit()).filter(|&at| at > 0)?;
            let place = 1 + units.find(char::from(text.as_bytes()[at]))?;
            if place <= last {
                return None;
            }
            (count, last, text) = (count + 1, place, &text[at + 1..]);
        }
        Some(count)
    };
    if time.is_none() && parts(date, "W") == Some(1) {
        return true;
    }
    match (parts(date, "YMD"), time.map(|time| parts(time, "HMS"))) {
        (Some(count), None) => count > 0,
        (Some(_), Some(Some(count))) => count > 0,
        _ => false,
    }
}

fn is_email(text: &str, unicode: bool) -> bool {
    let Some((local, host)) = text.rsplit_once('@') else { return false };
    let atom = |part: &str| {
        let sign = |sign: char| {
            sign.is_ascii_alphanumeric()
                || "!#$%&'*+/=?^_`{|}~-".contains(sign)
                || (unicode && !sign.is_ascii())
        };
        !part.is_empty() && part.chars().all(sign)
    };
    // RFC 5321 §4.1.2.
    let quoted = local.len() > 2
        && local.starts_with('"')
        && local.ends_with('"')
        && local[1..local.len() - 1]
            .bytes()
            .all(|byte| (b' '..0x7f).contains(&byte) && byte != b'"');
    let literal =
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).is_some_and(|host| {
            host.parse::<Ipv4Addr>().is_ok()
                || host.strip_prefix("IPv6:").is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
        });
    (quoted || local.split('.').all(atom)) && (literal || is_hostname(host, unicode))
}

/// RFC 1123 §2.1.
fn is_hostname(text: &str, unicode: bool) -> bool {
    let label = |label: &str| {
        let sign = |sign: char| {
            sign.is_ascii_alphanumeric() || sign == '-' || (unicode && !sign.is_ascii())
        };
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(sign)
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// RFC 3986 §4.1; with other scripts RFC 3987.
fn is_uri(text: &str, absolute: bool, unicode: bool) -> bool {
    let scheme = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let head = text.find(['/', '?', '#']).unwrap_or(text.len());
    let rest = match text[..head].split_once(':') {
        Some((name, _)) if scheme(name) => &text[name.len() + 1..],
        Some(_) => return false,
        None if absolute => return false,
        None => text,
    };
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let host = match host.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => port,
            _ => return false,
        },
        None => host,
    };
    let signs = |text: &str, more: &str| {
        let mut left = text.chars();
        while let Some(sign) = left.next() {
            let plain = sign.is_ascii_alphanumeric()
                || "-._~!$&'()*+,;=:@".contains(sign)
                || more.contains(sign)
                || (unicode && !sign.is_ascii());
            let mut coded = || {
                let mut digit = || left.next().is_some_and(|digit| digit.is_ascii_hexdigit());
                digit() && digit()
            };
            if !(plain || (sign == '%' && coded())) {
                return false;
            }
        }
        true
    };
    signs(user, "")
        && signs(host, "")
        && signs(path, "/")
        && signs(query, "/?")
        && signs(fragment, "/?")
}

/// RFC 6570 §2, as far as braces go.
fn is_template(text: &str) -> bool {
    let mut open = false;
    for sign in text.chars() {
        match (sign, open) {
            ('{', false) => open = true,
            ('}', true) => open = false,
            ('{', true) | ('}', false) => return false,
            ('\u{0}'..=' ' | '"' | '\'' | '<' | '>' | '\\' | '^' | '`' | '|', _) => return false,
            _ => {}
        }
    }
    !open
}

/// RFC 9562 §4.
fn is_uuid(text: &str) -> bool {
    // The TypeScript SDK takes a URN as well.
    let text = text.strip_prefix("urn:uuid:").unwrap_or(text);
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// RFC 6901 §3.
fn is_pointer(text: &str) -> bool {
    let mut escapes = text.split('~').skip(1);
    (text.is_empty() || text.starts_with('/'))
        && escapes.all(|behind| behind.starts_with(['0', '1']))
}

fn is_relative_pointer(text: &str) -> bool {
    let at = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (levels, rest) = text.split_at(at);
    !levels.is_empty()
        && (levels == "0" || !levels.starts_with('0'))
        && (rest == "#" || is_pointer(rest))
}

/// Name, texts that have the format, texts that have not.
#[cfg(test)]
pub(super) const FORMATS: &[(&str, &[&str], &[&str])] = &[
    (
        "date-time",
        &["2026-11-23T04:05:06Z", "2024-02-29T23:59:59+01:30", "2026-11-23t04:05:06.25-00:00"],
        &[
            "2026-11-23",
            "2025-02-29T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T04:05:06",
            "[x]",
        ],
    ),
    (
        "date",
        &["2026-11-23"],
        &["2026-11-31", "2026-13-01", "26-11-23", "2026-11-23T", "**********"],
    ),
    ("time", &["04:05:06Z", "04:05:06.1+02:00"], &["04:05Z", "04:05:06", "4:05:06Z", "04:05:06."]),
    (
        "duration",
        &["P1D", "PT5M", "P1Y2M3DT4H5M6S", "P2W"],
        &["P", "PT", "1D", "P1D2Y", "P1S", "PT1D", "P1W2D"],
    ),
    (
        "email",
        &["jo@example.com", "a.b+c@x-y.example"],
        &["jo", "@x", "jo@", "[email]*@x.example", "a..b@x", "jo@-x"],
    ),
    ("hostname", &["example.com", "a-b.c1"], &["", "-a.b", "a_b", "a..b", "[host]**"]),
    ("ipv4", &["127.0.0.1", "255.255.255.255"], &["256.0.0.1", "1.2.3", "01.2.3.4", "[ipv4]***"]),
    ("ipv6", &["::1", "2001:db8::1", "::ffff:1.2.3.4"], &["1", ":::", "12345::", "[ipv6]"]),
    (
        "uri",
        &[
            "https://example.com/a?b#c",
            "urn:x:y",
            "http://[::1]:80/",
            "mailto:jo@example.com",
            "https://u:p@h/%20",
        ],
        &[
            "/a",
            "example.com",
            "http://[x]/",
            "https://x/[masked:x]",
            "https://x/ y",
            "h t://x",
            "http://x/%2",
        ],
    ),
    ("uri-reference", &["/a", "", "a/b?c", "#x", "//h/p"], &["[masked:x]", "a b", "\\x"]),
    ("uri-template", &["https://x/{a}", "x", "[x]"], &["{a", "a}", "{{a}}", "a b"]),
    (
        "uuid",
        &["123e4567-e89b-12d3-a456-426614174000", "00000000-0000-0000-0000-000000000000"],
        &[
            "123e4567e89b12d3a456426614174000",
            "123e4567-e89b-12d3-a456-42661417400g",
            "[uuid]******************************",
        ],
    ),
    ("json-pointer", &["", "/a/~0b/~1", "/"], &["a", "/~2", "/~"]),
    ("relative-json-pointer", &["0", "1/a", "2#"], &["", "/a", "01/a", "-1"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_from_what_only_looks_like_them() {
        for (name, good, bad) in FORMATS {
            good.iter().for_each(|text| assert!(is_format(name, text), "{name}: {text:?}"));
            bad.iter().for_each(|text| assert!(!is_format(name, text), "{name}: {text:?}"));
        }
        assert!(is_format("byte", "aGk=") && !is_format("byte", "[x]*"));
        assert!(is_format("iso-time", "04:05:06") && is_format("url", "http://x"));
        assert!(is_format("credit-card", "anything"), "a name that nobody knows asks nothing");
    }
}
