//! Validators of personal data: account, identity and telephone numbers, addresses.
//!
//! Each takes the matched bytes with their separators. Sources stand at the variants of
//! [`super::validate::Validator`].

/// The digits of `value` as numbers, separators dropped; at most `N`, else `None`.
pub(super) fn digits<const N: usize>(value: &[u8]) -> Option<([u8; N], usize)> {
    let mut out = [0; N];
    let mut len = 0;
    for byte in value.iter().filter(|byte| byte.is_ascii_digit()) {
        *out.get_mut(len)? = byte - b'0';
        len += 1;
    }
    Some((out, len))
}

/// What twice a digit adds to the sum.
const DOUBLED: [u8; 10] = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];

fn luhn(digits: &[u8]) -> bool {
    let mut sum = 0u32;
    for pair in digits.rchunks(2) {
        sum += match *pair {
            [second, first] => u32::from(DOUBLED[usize::from(second)] + first),
            [first] => u32::from(first),
            _ => 0,
        };
    }
    sum.is_multiple_of(10)
}

pub(super) fn card(value: &[u8]) -> bool {
    card_of(value, |head, len| match head {
        400_000..=499_999 => len == 16,                     // Visa
        510_000..=559_999 | 222_100..=272_099 => len == 16, // Mastercard
        340_000..=349_999 | 370_000..=379_999 => len == 15, // American Express
        300_000..=305_999 | 360_000..=369_999 | 380_000..=399_999 => len == 14, // Diners Club
        601_100..=601_199 | 644_000..=659_999 => len == 16, // Discover
        620_000..=629_999 => matches!(len, 16 | 19),        // UnionPay
        352_800..=358_999 => len == 16,                     // JCB
        _ => false,
    })
}

/// With brands and lengths that are rare, or whose range is wide: for numbers whose label says card.
pub(super) fn card_any(value: &[u8]) -> bool {
    card_of(value, |head, len| match head {
        400_000..=499_999 => matches!(len, 13 | 16 | 19), // Visa
        213_100..=213_199 | 180_000..=180_099 => len == 15, // JCB
        220_000..=272_099 => len == 16,                   // Mir, Mastercard
        300_000..=305_999 | 360_000..=369_999 | 380_000..=399_999 => (14..=19).contains(&len),
        340_000..=349_999 | 370_000..=379_999 => len == 15, // American Express
        350_000..=359_999 => (16..=19).contains(&len),      // JCB
        510_000..=559_999 => len == 16,                     // Mastercard
        // Discover, UnionPay, RuPay, Maestro, Elo, Troy.
        500_000..=509_999 | 560_000..=699_999 => (12..=19).contains(&len),
        817_000..=829_999 | 979_200..=979_299 => len == 16,
        _ => false,
    })
}

/// `4.111111111111111e15`: the digits before the exponent and the zeros behind them.
pub(super) fn card_float(value: &[u8]) -> bool {
    let Some(at) = value.iter().position(|byte| byte.eq_ignore_ascii_case(&b'e')) else {
        return false;
    };
    let Some((exponent, _)) = digits::<2>(&value[at..]) else { return false };
    let places = exponent[0] as usize * 10 + exponent[1] as usize;
    let mut number = [b'0'; 19];
    let mut len = 0;
    for &digit in value[..at].iter().filter(|byte| byte.is_ascii_digit()) {
        let Some(slot) = number.get_mut(len) else { return false };
        *slot = digit;
        len += 1;
    }
    len <= places + 1 && number.get(..places + 1).is_some_and(card_any)
}

fn card_of(value: &[u8], brand: impl Fn(u32, usize) -> bool) -> bool {
    let Some((digits, len)) = digits::<19>(value) else { return false };
    let digits = &digits[..len];
    if len < 12 || digits.iter().all(|&digit| digit == digits[0]) {
        return false;
    }
    let head = digits[..6].iter().fold(0u32, |head, &digit| head * 10 + digit as u32);
    // Trailing zeros after the issuer number are counters and round amounts, not accounts.
    brand(head, len) && luhn(digits) && digits[6..].iter().any(|&digit| digit != 0)
}

/// Country codes and total lengths of ISO 13616 (registry of 2025).
const IBAN_LENGTHS: &[u8] = b"\
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 \
    DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 \
    GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 \
    LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 \
    PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 \
    TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30";

/// The same for each pair of capital letters, 0 for none: every such pair in a text is asked for.
const IBAN_LENGTH_OF: [u8; 26 * 26] = {
    let mut table = [0; 26 * 26];
    let mut at = 0;
    while at < IBAN_LENGTHS.len() {
        let [first, second] = [IBAN_LENGTHS[at] - b'A', IBAN_LENGTHS[at + 1] - b'A'];
        let [tens, ones] = [IBAN_LENGTHS[at + 2] - b'0', IBAN_LENGTHS[at + 3] - b'0'];
        table[first as usize * 26 + second as usize] = tens * 10 + ones;
        at += 5;
    }
    table
};

/// Total length of the account numbers of one country.
pub(super) fn iban_length(&[first, second]: &[u8; 2]) -> Option<usize> {
    if !first.is_ascii_uppercase() || !second.is_ascii_uppercase() {
        return None;
    }
    let length = IBAN_LENGTH_OF[(first - b'A') as usize * 26 + (second - b'A') as usize];
    (length > 0).then_some(length as usize)
}

pub(super) fn iban(value: &[u8]) -> bool {
    let mut compact = [0u8; 34];
    let mut len = 0;
    for &byte in value.iter().filter(|&&byte| byte != b' ') {
        let Some(slot) = compact.get_mut(len) else { return false };
        *slot = byte;
        len += 1;
    }
    let compact = &compact[..len];
    let Some(country) = compact.first_chunk::<2>() else { return false };
    if iban_length(country) != Some(len) {
        return false;
    }
    let remainder =
        compact[4..].iter().chain(&compact[..4]).try_fold(0u32, |rest, &byte| match byte {
            b'0'..=b'9' => Some((rest * 10 + (byte - b'0') as u32) % 97),
            b'A'..=b'Z' => Some((rest * 100 + (byte - b'A') as u32 + 10) % 97),
            _ => None,
        });
    remainder == Some(1)
}

pub(super) fn ssn(value: &[u8]) -> bool {
    let Some((d, 9)) = digits::<9>(value) else { return false };
    let area = d[0] as u32 * 100 + d[1] as u32 * 10 + d[2] as u32;
    let group = d[3] as u32 * 10 + d[4] as u32;
    let serial = d[5..].iter().fold(0, |serial, &digit| serial * 10 + digit as u32);
    // 078-05-1120 and 219-09-9999 were printed in advertisements and voided by the SSA.
    !matches!(area, 0 | 666 | 900..)
        && group != 0
        && serial != 0
        && !matches!((area, group, serial), (78, 5, 1120) | (219, 9, 9999))
        && d.iter().any(|&digit| digit != d[0])
}

pub(super) fn itin(value: &[u8]) -> bool {
    let Some((d, 9)) = digits::<9>(value) else { return false };
    d[0] == 9 && matches!(d[3] * 10 + d[4], 50..=65 | 70..=88 | 90..=92 | 94..=99)
}

pub(super) fn nino(value: &[u8]) -> bool {
    let Some(&[first, second]) = value.first_chunk::<2>() else { return false };
    !b"DFIQUV".contains(&first)
        && !b"DFIQUVO".contains(&second)
        && !matches!(&[first, second], b"BG" | b"GB" | b"KN" | b"NK" | b"NT" | b"TN" | b"ZZ")
}

pub(super) fn cpf(value: &[u8]) -> bool {
    let Some((d, 11)) = digits::<11>(value) else { return false };
    let check = |upto: usize| {
        let sum: u32 = d[..upto]
            .iter()
            .enumerate()
            .map(|(place, &digit)| digit as u32 * (upto + 1 - place) as u32)
            .sum();
        (sum * 10 % 11 % 10) as u8 == d[upto]
    };
    d.iter().any(|&digit| digit != d[0]) && check(9) && check(10)
}

pub(super) fn public_ipv4(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let Ok(address) = text.parse::<std::net::Ipv4Addr>() else { return false };
    let [a, b, c, d] = address.octets();
    // Small octets alone are nearly always versions, clauses and object identifiers.
    let version =
        a < 32 && b < 32 && c < 32 && d < 100 && !matches!((a, b), (1, 1) | (8, 8) | (9, 9));
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (18..20).contains(&b))
        || (a == 255)
        || version)
}

/// Blocks of global unicast that the registries give addresses from: the first sixteen bits (IANA, IPv6 global unicast
/// address assignments). Tunnels (`2002::/16`) and documentation (`2001:db8::/32`, `3fff::/20`) are none of them.
const IPV6_BLOCKS: &[std::ops::RangeInclusive<u16>] = &[
    0x2001..=0x2001,
    0x2003..=0x2003,
    0x2400..=0x240f,
    0x2600..=0x260f,
    0x2610..=0x2610,
    0x2620..=0x2620,
    0x2630..=0x2630,
    0x2800..=0x280f,
    0x2a00..=0x2a1f,
    0x2c0f..=0x2c0f,
];

pub(super) fn public_ipv6(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let Ok(address) = text.parse::<std::net::Ipv6Addr>() else { return false };
    let [first, second, ..] = address.segments();
    // The lower end of 2001::/16 is protocol space (2001::/23).
    let special = first == 0x2001 && (second < 0x200 || second == 0xdb8);
    !special && IPV6_BLOCKS.iter().any(|block| block.contains(&first))
}

/// Last labels that are suffixes of files and units, not domains people have mail at.
const NO_MAIL_SUFFIXES: &[&str] = &[
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "webp",
    "ico",
    "css",
    "scss",
    "less",
    "js",
    "mjs",
    "cjs",
    "jsx",
    "ts",
    "tsx",
    "json",
    "yaml",
    "yml",
    "toml",
    "html",
    "htm",
    "xml",
    "txt",
    "csv",
    "pdf",
    "exe",
    "dll",
    "lock",
    "log",
    "py",
    "rb",
    "rs",
    "go",
    "java",
    "kt",
    "cpp",
    "hpp",
    "sql",
    "wasm",
    "map",
    "tgz",
    "gz",
    "tar",
    "zip",
    "service",
    "socket",
    "timer",
    "target",
    "mount",
    "path",
    "slice",
    "scope",
    "swap",
    "device",
    "automount",
    "class",
    "len",
    "length",
    "value",
    "data",
    "items",
    "id",
    "name",
    "property",
    "setter",
    "getter",
    "method",
    "param",
    "override",
    "component",
    "test",
    "route",
    "vue",
    "conf",
    "cfg",
    "ini",
    "sock",
    "deb",
    "rpm",
    "apk",
    "whl",
    "jar",
    "tar",
    "bak",
    "tmp",
    "pyc",
    "pem",
    "crt",
    "key",
    "mp3",
    "mp4",
    "wav",
    "ttf",
    "woff",
    "woff2",
    "header",
    "headers",
    "column",
    "field",
    "offset",
    "index",
    "size",
    "type",
    "kind",
    "node",
    "text",
    "body",
    "self",
    "this",
    "args",
    "kwargs",
    "config",
    "state",
    "props",
    "status",
    "result",
    "error",
    "message",
    "fixture",
    "mark",
    "parametrize",
    "pytest",
    "staticmethod",
    "po",
    "pot",
    "tpl",
    "tmpl",
    "j2",
];

/// Bound: bytes of a word that [`packed`] takes.
const PACKED_BYTES_MAX: usize = 15;

/// A word in lower case as a number; its length is told by the first bit.
const fn packed(word: &[u8]) -> u128 {
    let mut out = 1;
    let mut at = 0;
    while at < word.len() {
        out = out << 8 | word[at].to_ascii_lowercase() as u128;
        at += 1;
    }
    out
}

/// The suffixes in order: every address is asked for its own.
const NO_MAIL_PACKED: [u128; NO_MAIL_SUFFIXES.len()] = {
    let mut table = [0; NO_MAIL_SUFFIXES.len()];
    let mut count = 0;
    while count < table.len() {
        assert!(NO_MAIL_SUFFIXES[count].len() <= PACKED_BYTES_MAX);
        let word = packed(NO_MAIL_SUFFIXES[count].as_bytes());
        let mut at = count;
        while at > 0 && table[at - 1] > word {
            table[at] = table[at - 1];
            at -= 1;
        }
        table[at] = word;
        count += 1;
    }
    table
};

fn is_no_mail_suffix(last: &[u8]) -> bool {
    last.len() <= PACKED_BYTES_MAX && NO_MAIL_PACKED.binary_search(&packed(last)).is_ok()
}

pub(super) fn email(value: &[u8]) -> bool {
    let Some(at) = memchr::memchr(b'@', value) else { return false };
    let (local, domain) = (&value[..at], &value[at + 1..]);
    let Some(dot) = memchr::memrchr(b'.', domain) else { return false };
    let last = &domain[dot + 1..];
    // `git@host:path` names a repository, not a person.
    let program = local.len() <= 4
        && [&b"git"[..], b"hg", b"svn", b"root"]
            .iter()
            .any(|name| name.eq_ignore_ascii_case(local));
    let dotted = local.iter().zip(&local[local.len().min(1)..]).any(|pair| pair == (&b'.', &b'.'));
    if dotted || program || matches!(local.last(), None | Some(b'.')) {
        return false;
    }
    // `pkg@1.2.3-rc.one` names a version.
    let mut numbered = 0;
    let mut from = 0;
    for label in 0.. {
        let length = domain[from..].iter().position(|&byte| byte == b'.');
        let part = &domain[from..length.map_or(domain.len(), |length| from + length)];
        let (Some(first), Some(end)) = (part.first(), part.last()) else { return false };
        if part.len() > 63 || *first == b'-' || *end == b'-' {
            return false;
        }
        numbered += usize::from(label < 2 && first.is_ascii_digit());
        match length {
            Some(length) => from += length + 1,
            None => break,
        }
    }
    let version = match numbered {
        2 => domain[..dot].contains(&b'.'),
        1 => dot < 3 && domain[..dot].iter().all(u8::is_ascii_digit),
        _ => false,
    };
    !version && !is_no_mail_suffix(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 1035 §2.3.4. Mutant: one more.
    #[test]
    fn a_label_of_a_domain_has_63_letters() {
        for (length, holds) in [(1, true), (63, true), (64, false)] {
            let label = "a".repeat(length);
            assert_eq!(email(format!("alice@{label}.org").as_bytes()), holds, "{length}");
            assert_eq!(email(format!("alice@mail.{label}.org").as_bytes()), holds, "{length}");
        }
    }

    // Mutants: the table is not in order; its last word is left out; the length is not told; capitals count.
    #[test]
    fn every_suffix_of_a_file_is_one_in_any_case_and_nothing_else() {
        for suffix in NO_MAIL_SUFFIXES {
            assert!(is_no_mail_suffix(suffix.as_bytes()), "{suffix}");
            assert!(is_no_mail_suffix(suffix.to_ascii_uppercase().as_bytes()), "{suffix}");
            for other in [format!("\0{suffix}"), format!("{suffix}q"), format!("q{suffix}")] {
                let known = NO_MAIL_SUFFIXES.contains(&other.as_str());
                assert_eq!(is_no_mail_suffix(other.as_bytes()), known, "{other}");
            }
        }
        for other in ["com", "", "photography", "averyveryverylonglabel"] {
            assert!(!is_no_mail_suffix(other.as_bytes()), "{other}");
        }
    }
}
