//! Validators: the arithmetic that decides whether a text of the right shape is the real thing.
//!
//! Pure functions over the captured bytes; no regular expressions and no state. A validator named in a
//! rule's `validators` must hold for a match to count; one named in `confirm` only raises confidence
//! (see [`super::rules::Rule::on_validated`]), so a mistyped checksum never lets a token through.

/// The checks a rule can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validator {
    /// Luhn sum, a known issuer range and the length of that brand (ISO/IEC 7812).
    Card,
    /// Country, its length, and the remainder 1 modulo 97 (ISO 13616).
    Iban,
    /// Area, group and serial that have been issued (SSA: no 000, 666 or 9xx, no 00, no 0000).
    Ssn,
    /// 9xx with a fourth and fifth digit of the ITIN ranges (IRS: 50-65, 70-88, 90-92, 94-99).
    Itin,
    /// Prefix letters that HMRC issues.
    Nino,
    /// Both check digits of a Brazilian CPF.
    Cpf,
    /// A country code of ITU E.164 and a length that fits it.
    E164,
    /// A North American number: area and exchange start with 2 to 9.
    Nanp,
    /// Four octets of an address that is routed in public.
    PublicIpv4,
    /// A mailbox whose domain can exist: labels, a last label of letters that is no file suffix.
    Email,
    /// CRC-32 of the first 30 characters after the prefix, base 62, in the last six (GitHub, npm).
    Crc32Base62,
    /// The first segment of a JSON Web Token decodes to an object with `alg`.
    JwtHeader,
    /// Base64 of `user:password` (RFC 7617 §2).
    BasicPair,
    /// Upper and lower case or letters and digits mixed, as random keys are and words are not.
    Mixed,
    /// Not only hexadecimal digits.
    NotHex,
    /// Not the shape of an identifier that stands in for a value: placeholders, template braces,
    /// words such as `example` or `changeme`, one repeated character, a path, a UUID, a call.
    NotPlaceholder,
}

impl Validator {
    /// Every validator with its name in rule files.
    pub const ALL: &'static [(&'static str, Validator)] = &[
        ("card", Validator::Card),
        ("iban", Validator::Iban),
        ("us-ssn", Validator::Ssn),
        ("us-itin", Validator::Itin),
        ("uk-nino", Validator::Nino),
        ("br-cpf", Validator::Cpf),
        ("e164", Validator::E164),
        ("nanp", Validator::Nanp),
        ("public-ipv4", Validator::PublicIpv4),
        ("email", Validator::Email),
        ("crc32-base62", Validator::Crc32Base62),
        ("jwt-header", Validator::JwtHeader),
        ("basic-pair", Validator::BasicPair),
        ("mixed", Validator::Mixed),
        ("not-hex", Validator::NotHex),
        ("not-placeholder", Validator::NotPlaceholder),
    ];

    /// The validator called `name`.
    pub fn named(name: &str) -> Option<Validator> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|&(_, validator)| validator)
    }

    /// Whether `value` passes.
    pub fn holds(self, value: &[u8]) -> bool {
        match self {
            Validator::Card => card(value),
            Validator::Iban => iban(value),
            Validator::Ssn => ssn(value),
            Validator::Itin => itin(value),
            Validator::Nino => nino(value),
            Validator::Cpf => cpf(value),
            Validator::E164 => e164(value),
            Validator::Nanp => nanp(value),
            Validator::PublicIpv4 => public_ipv4(value),
            Validator::Email => email(value),
            Validator::Crc32Base62 => crc32_base62(value),
            Validator::JwtHeader => jwt_header(value),
            Validator::BasicPair => basic_pair(value),
            Validator::Mixed => mixed(value),
            Validator::NotHex => !value.iter().all(u8::is_ascii_hexdigit),
            Validator::NotPlaceholder => !placeholder(value),
        }
    }
}

/// Shannon entropy of the bytes of `value`, in bits a byte.
pub fn entropy(value: &[u8]) -> f32 {
    let mut counts = [0u32; 256];
    for &byte in value {
        counts[byte as usize] += 1;
    }
    let total = value.len() as f32;
    counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| {
            let share = count as f32 / total;
            -share * share.log2()
        })
        .sum()
}

/// The digits of `value` as numbers, separators dropped; at most `N`, else `None`.
fn digits<const N: usize>(value: &[u8]) -> Option<([u8; N], usize)> {
    let mut out = [0; N];
    let mut len = 0;
    for byte in value.iter().filter(|byte| byte.is_ascii_digit()) {
        *out.get_mut(len)? = byte - b'0';
        len += 1;
    }
    Some((out, len))
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| {
            let doubled = digit as u32 * 2;
            if place % 2 == 0 { digit as u32 } else { doubled / 10 + doubled % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

fn card(value: &[u8]) -> bool {
    let Some((digits, len)) = digits::<19>(value) else { return false };
    let digits = &digits[..len];
    if len < 14 || digits.iter().all(|&digit| digit == digits[0]) {
        return false;
    }
    let head = digits[..6].iter().fold(0u32, |head, &digit| head * 10 + digit as u32);
    let brand = match head {
        400_000..=499_999 => len == 16,                     // Visa
        510_000..=559_999 | 222_100..=272_099 => len == 16, // Mastercard
        340_000..=349_999 | 370_000..=379_999 => len == 15, // American Express
        300_000..=305_999 | 360_000..=369_999 | 380_000..=399_999 => len == 14, // Diners Club
        601_100..=601_199 | 644_000..=659_999 => len == 16, // Discover
        620_000..=629_999 => matches!(len, 16 | 19),        // UnionPay
        352_800..=358_999 => len == 16,                     // JCB
        _ => false,
    };
    // Trailing zeros after the issuer number are counters and round amounts, not accounts.
    brand && luhn(digits) && digits[6..].iter().any(|&digit| digit != 0)
}

/// Country codes and total lengths of ISO 13616 (registry of 2025).
const IBAN_LENGTHS: &[u8] = b"\
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 \
    DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 \
    GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 \
    LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 \
    PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 \
    TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30";

/// Total length of the account numbers of one country.
pub(super) fn iban_length(country: &[u8; 2]) -> Option<usize> {
    let entry = IBAN_LENGTHS.chunks(5).find(|entry| entry.starts_with(country))?;
    Some((entry[2] - b'0') as usize * 10 + (entry[3] - b'0') as usize)
}

fn iban(value: &[u8]) -> bool {
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

fn ssn(value: &[u8]) -> bool {
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

fn itin(value: &[u8]) -> bool {
    let Some((d, 9)) = digits::<9>(value) else { return false };
    d[0] == 9 && matches!(d[3] * 10 + d[4], 50..=65 | 70..=88 | 90..=92 | 94..=99)
}

fn nino(value: &[u8]) -> bool {
    let Some(&[first, second]) = value.first_chunk::<2>() else { return false };
    !b"DFIQUV".contains(&first)
        && !b"DFIQUVO".contains(&second)
        && !matches!(&[first, second], b"BG" | b"GB" | b"KN" | b"NK" | b"NT" | b"TN" | b"ZZ")
}

fn cpf(value: &[u8]) -> bool {
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

/// Country codes of E.164 with two digits; every other code has three, except 1 and 7.
const E164_TWO: &[u8] = &[
    20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56,
    57, 58, 60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98,
];

fn e164(value: &[u8]) -> bool {
    let Some((d, len)) = digits::<15>(value) else { return false };
    if d[..len].iter().skip(3).all(|&digit| digit == d[len.saturating_sub(1)]) {
        return false;
    }
    match d[0] {
        1 => len == 11 && nanp_digits(&d[1..11]),
        7 => len == 11 && matches!(d[1], 3..=9),
        0 => false,
        _ if E164_TWO.contains(&(d[0] * 10 + d[1])) => (9..=14).contains(&len) && d[2] != 0,
        2 | 3 | 4 | 5 | 6 | 8 | 9 => {
            let code = d[0] as u32 * 100 + d[1] as u32 * 10 + d[2] as u32;
            let assigned = matches!(code,
                211..=213 | 216 | 218 | 220..=269 | 290..=291 | 297..=299 | 350..=359 | 370..=389
                | 420..=423 | 500..=509 | 590..=599 | 670..=692 | 850..=856 | 880 | 886 | 960..=968
                | 970..=977 | 992..=998);
            assigned && (10..=15).contains(&len)
        }
        _ => false,
    }
}

fn nanp_digits(d: &[u8]) -> bool {
    d[0] >= 2 && d[3] >= 2 && !(d[1] == 1 && d[2] == 1) && !(d[4] == 1 && d[5] == 1)
}

fn nanp(value: &[u8]) -> bool {
    match digits::<11>(value) {
        Some((d, 10)) => nanp_digits(&d[..10]),
        Some((d, 11)) => d[0] == 1 && nanp_digits(&d[1..]),
        _ => false,
    }
}

fn public_ipv4(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let Ok(address) = text.parse::<std::net::Ipv4Addr>() else { return false };
    let [a, b, c, d] = address.octets();
    // Small first octets with small rest are nearly always four-part versions.
    let version =
        a < 20 && b < 20 && c < 20 && d < 20 && !matches!((a, b), (1, 1) | (8, 8) | (9, 9));
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
];

fn email(value: &[u8]) -> bool {
    let Some(at) = memchr::memchr(b'@', value) else { return false };
    let (local, domain) = (&value[..at], &value[at + 1..]);
    let Some(dot) = memchr::memrchr(b'.', domain) else { return false };
    let last = &domain[dot + 1..];
    // `git@host:path` names a repository, not a person.
    let program =
        [&b"git"[..], b"hg", b"svn", b"root"].iter().any(|name| name.eq_ignore_ascii_case(local));
    !local.windows(2).any(|pair| pair == b"..")
        && local.last() != Some(&b'.')
        && !program
        && domain.split(|&byte| byte == b'.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label[0] != b'-'
                && label.last() != Some(&b'-')
        })
        && !(domain[..dot].iter().all(u8::is_ascii_digit))
        && !NO_MAIL_SUFFIXES.iter().any(|suffix| suffix.as_bytes().eq_ignore_ascii_case(last))
}

/// CRC-32 (IEEE 802.3, reflected), bit by bit: values are short and rare.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8)
            .fold(crc ^ byte as u32, |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn crc32_base62(value: &[u8]) -> bool {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let Some(start) = memchr::memchr(b'_', value) else { return false };
    let body = &value[start + 1..];
    if body.len() != 36 {
        return false;
    }
    let mut rest = crc32(&body[..30]);
    body[30..].iter().rev().all(|&byte| {
        let expected = ALPHABET[(rest % 62) as usize];
        rest /= 62;
        expected == byte
    })
}

fn base64_any(text: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine;
    use base64::alphabet::{STANDARD, URL_SAFE};
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    let alphabet = if url_safe { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, lenient).decode(text).ok()
}

fn jwt_header(value: &[u8]) -> bool {
    let header = value.split(|&byte| byte == b'.').next().unwrap_or_default();
    base64_any(header).is_some_and(|json| {
        memchr::memmem::find(&json, b"\"alg\"").is_some() && json.contains(&b'}')
    })
}

fn basic_pair(value: &[u8]) -> bool {
    base64_any(value).is_some_and(|pair| {
        pair.iter().all(|byte| (0x20..0x7f).contains(byte))
            && memchr::memchr(b':', &pair).is_some_and(|at| at > 0 && at + 1 < pair.len())
    })
}

fn mixed(value: &[u8]) -> bool {
    let has = |test: fn(&u8) -> bool| value.iter().any(test);
    let digit = has(u8::is_ascii_digit);
    let kinds = [
        digit,
        has(u8::is_ascii_lowercase),
        has(u8::is_ascii_uppercase),
        has(u8::is_ascii_punctuation),
    ];
    digit && kinds.iter().filter(|&&kind| kind).count() >= 2
}

/// Words that stand in for a value in documentation and templates.
const PLACEHOLDER_WORDS: &[&str] = &[
    "example",
    "changeme",
    "change_me",
    "placeholder",
    "your_",
    "your-",
    "yourpassword",
    "redacted",
    "masked",
    "dummy",
    "xxxx",
    "<",
    "${",
    "{{",
    "%(",
    "****",
    "not_set",
    "undefined",
    "process.env",
    "os.environ",
    "getenv",
    "config.",
    "settings.",
    "secrets.",
    "vault:",
    "required",
    "optional",
    "password123!example",
    "insert",
    "replace",
    "todo",
    "...",
];

fn placeholder(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    let repeated = lower.first().is_some_and(|first| lower.iter().all(|byte| byte == first));
    let word = PLACEHOLDER_WORDS
        .iter()
        .any(|word| memchr::memmem::find(&lower, word.as_bytes()).is_some());
    let uuid = lower.len() == 36
        && lower.iter().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    let path = matches!(lower.first(), Some(b'/' | b'.' | b'~' | b'$' | b'@'))
        || memchr::memmem::find(&lower, b"://").is_some();
    let call = lower.ends_with(b")") || lower.ends_with(b"(") || lower.ends_with(b";");
    repeated || word || uuid || path || call
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_examples_pass_and_one_digit_off_does_not() {
        // Test numbers published by the payment networks and registries.
        for (validator, good, bad) in [
            (Validator::Card, "4111 1111 1111 1111", "4111 1111 1111 1112"),
            (Validator::Card, "378282246310005", "378282246310006"),
            (Validator::Card, "5555-5555-5555-4444", "1555-5555-5555-4444"),
            (Validator::Iban, "GB82 WEST 1234 5698 7654 32", "GB83 WEST 1234 5698 7654 32"),
            (Validator::Iban, "DE89370400440532013000", "DE8937040044053201300"),
            (Validator::Ssn, "536-90-4399", "666-90-4399"),
            (Validator::Itin, "912-70-1234", "912-66-1234"),
            (Validator::Nino, "AB123456C", "BG123456C"),
            (Validator::Cpf, "529.982.247-25", "529.982.247-26"),
            (Validator::E164, "+14155552671", "+11155552671"),
            (Validator::E164, "+44 20 7946 0958", "+999 20 7946 0958"),
            (Validator::PublicIpv4, "93.184.216.34", "192.168.1.34"),
            (Validator::Email, "alice@example.com", "icon@2x.png"),
            (Validator::BasicPair, "YWxpY2U6c2VjcmV0", "YWxpY2VzZWNyZXQ="),
        ] {
            assert!(validator.holds(good.as_bytes()), "{validator:?} {good}");
            assert!(!validator.holds(bad.as_bytes()), "{validator:?} {bad}");
        }
    }

    #[test]
    fn the_checksum_of_a_token_is_its_crc_in_base_62() {
        let body = "0123456789abcdefghijABCDEFGHIJ";
        let mut rest = crc32(body.as_bytes());
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let mut tail = vec![];
        for _ in 0..6 {
            tail.push(
                b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                    [(rest % 62) as usize],
            );
            rest /= 62;
        }
        tail.reverse();
        let token = format!("ghp_{body}{}", String::from_utf8(tail).unwrap());
        assert!(Validator::Crc32Base62.holds(token.as_bytes()));
        assert!(!Validator::Crc32Base62.holds(token.replace("abc", "abd").as_bytes()));
    }

    #[test]
    fn entropy_is_in_bits_a_byte() {
        assert_eq!(entropy(b"aaaa"), 0.0);
        assert_eq!(entropy(b"abab"), 1.0);
        assert_eq!(entropy(b"abcdefgh"), 3.0);
    }
}
