//! Telephone numbers: codes of countries, lengths within them, and what tells a number in E.164 from a number with a sign.
//!
//! A `+` stands in front of decimals, offsets and coordinates far more often than in front of a telephone number. Where no
//! label says telephone, the groups of its digits have to look like one.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::people::digits;
use super::words::any_case;

/// Country codes of E.164 with two digits; every other code has three, except 1 and 7.
const E164_TWO: &[u8] = &[
    20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56,
    57, 58, 60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98,
];

pub(super) fn e164(value: &[u8]) -> bool {
    // `+44 (0)20`: the zero is dialled inside the country only.
    let trunk =
        memchr::memmem::find(value, b"(0)").map(|at| [&value[..at], &value[at + 3..]].concat());
    let Some((d, len)) = digits::<15>(trunk.as_deref().unwrap_or(value)) else { return false };
    if d[..len].iter().skip(3).all(|&digit| digit == d[len.saturating_sub(1)]) {
        return false;
    }
    match d[0] {
        1 => len == 11 && nanp_digits(&d[1..11]),
        7 => len == 11 && matches!(d[1], 3..=9),
        0 => false,
        _ if E164_TWO.contains(&(d[0] * 10 + d[1])) => (9..=14).contains(&len),
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

pub(super) fn nanp(value: &[u8]) -> bool {
    match digits::<11>(value) {
        Some((d, 10)) => nanp_digits(&d[..10]),
        Some((d, 11)) => d[0] == 1 && nanp_digits(&d[1..]),
        _ => false,
    }
}

/// Shortest and longest national number (fixed and mobile lines) by the code of the country, as the national plans
/// that ITU-T E.129 collects have them. Numbers too short for [`e164`], and old local ones, are left out.
const NATIONAL: &[(usize, usize, &[u16])] = &[
    (
        7,
        7,
        &[
            238, 239, 246, 248, 269, 291, 297, 501, 592, 597, 673, 674, 676, 677, 678, 679, 680,
            683, 688, 690, 691, 692, 960,
        ],
    ),
    (7, 8, &[230, 241, 267, 372, 507, 599, 670, 675, 961, 975]),
    (7, 9, &[220, 231, 245, 252, 254, 265, 354, 359, 421, 423, 595, 967]),
    (7, 10, &[243, 353, 358, 685, 880]),
    (7, 11, &[352]),
    (7, 12, &[381]),
    (
        8,
        8,
        &[
            45, 47, 53, 65, 216, 222, 223, 226, 227, 228, 232, 235, 236, 253, 257, 266, 268, 350,
            356, 357, 370, 371, 373, 374, 382, 386, 389, 502, 503, 504, 505, 506, 509, 591, 598,
            686, 689, 852, 853, 965, 968, 973, 974, 993,
        ],
    ),
    (
        8,
        9,
        &[
            32, 36, 46, 51, 66, 213, 224, 250, 258, 264, 355, 377, 385, 387, 593, 855, 962, 963,
            970, 971,
        ],
    ),
    (8, 10, &[20, 57, 60, 63, 64, 82, 95, 225, 229, 234, 378, 850, 856, 964, 976, 977]),
    (8, 11, &[39, 886]),
    (8, 12, &[62, 383, 972]),
    (8, 13, &[43, 49]),
    (
        9,
        9,
        &[
            27, 31, 33, 34, 40, 41, 48, 56, 61, 93, 94, 211, 212, 218, 221, 233, 237, 240, 242,
            244, 249, 251, 255, 256, 260, 261, 262, 351, 375, 376, 380, 420, 508, 590, 594, 596,
            966, 992, 994, 995, 996, 998,
        ],
    ),
    (9, 10, &[44, 81, 84, 92, 263]),
    (10, 10, &[1, 7, 30, 52, 58, 90, 91, 98]),
    (10, 11, &[54, 55, 86]),
];

/// Whether digits without the `+` are a code and as many digits as a number of that country has.
fn in_plan(d: &[u8]) -> bool {
    (1..=3).any(|length| code_in_plan(d, length))
}

/// The same, with a code of `length` digits.
fn code_in_plan(d: &[u8], length: usize) -> bool {
    // `+123456.789` begins with no code.
    if length > 3 {
        return false;
    }
    let Some((code, rest)) = d.split_at_checked(length) else { return false };
    let code = code.iter().fold(0, |code, &digit| code * 10 + digit as u16);
    NATIONAL
        .iter()
        .any(|(least, most, codes)| (*least..=*most).contains(&rest.len()) && codes.contains(&code))
}

/// A run of digits, and what stands between it and the run before.
#[derive(Clone, Copy)]
struct Group<'a> {
    gap: &'a [u8],
    digits: &'a [u8],
}

/// Bound: groups that are told apart; more are never a number with a sign.
const GROUPS_MAX: usize = 16;

/// The runs of digits behind the `+` of `value`.
fn groups(value: &[u8]) -> ([Group<'_>; GROUPS_MAX], usize) {
    let mut out = [Group { gap: b"", digits: b"" }; GROUPS_MAX];
    let mut rest = value.strip_prefix(b"+").unwrap_or(value);
    let mut count = 0;
    while count < GROUPS_MAX {
        let split = |rest: &[u8], of: fn(&u8) -> bool| rest.iter().take_while(|b| of(b)).count();
        let (gap, behind) = rest.split_at(split(rest, |byte| !byte.is_ascii_digit()));
        let (digits, behind) = behind.split_at(split(behind, u8::is_ascii_digit));
        if digits.is_empty() {
            break;
        }
        out[count] = Group { gap, digits };
        count += 1;
        rest = behind;
    }
    (out, count)
}

/// Whether separators show that `value` was written for people: two or more, or a bracket.
pub(super) fn is_grouped(value: &[u8]) -> bool {
    value.contains(&b'(') || groups(value).1 > 2
}

/// Whether a text that has the shape of E.164 is rather a number with a sign, coordinates, a time or an address, as
/// far as its digits and separators tell. `labelled`: its label says telephone.
pub(super) fn is_signed_number(value: &[u8], labelled: bool) -> bool {
    let (all, count) = groups(value);
    let all = &all[..count];
    let Some((d, len)) = digits::<15>(value) else { return true };
    let [first, rest @ ..] = all else { return true };
    let is_fraction = matches!(rest, [only] if only.gap == b".");
    if value.contains(&b'(') {
        return false;
    }
    // The North American way: `+1.415.555.2671`, `+1 415-555.2671`.
    let lengths =
        |wanted: &[usize]| all.iter().map(|group| group.digits.len()).eq(wanted.iter().copied());
    if first.digits == b"1" && (lengths(&[1, 3, 3, 4])) {
        return false;
    }
    // `+34 -12345678`: the sign of the next number.
    let sign = rest.iter().any(|group| group.gap == b" -");
    // `+33.25 13.50`, `+33 12.25 13`: nothing but dots stands behind a dot.
    let dot = rest.iter().position(|group| group.gap == b".");
    let decimals = dot.is_some_and(|dot| rest[dot..].iter().any(|group| group.gap != b"."));
    if labelled {
        // `+1.4155552671` is how registries write it (RFC 5733 §2.5).
        let registry = code_in_plan(&d[..len], first.digits.len());
        return sign && decimals || is_fraction && !registry;
    }
    // `+203.0.113.100`, `+345.678.901`.
    let dots = rest.iter().all(|group| group.gap == b".");
    let octet = |group: &Group| group.digits.len() < 3 || group.digits <= &b"255"[..];
    let three = |group: &Group| group.digits.len() == 3;
    let dotted = dots && (count == 4 && all.iter().all(octet) || all.iter().all(three));
    // Without separators, or with one, its length must be one that its country has.
    let off_plan = count <= 2 && !in_plan(&d[..len]);
    is_fraction || sign || decimals || dotted || off_plan || is_place(all) || is_date(all)
}

/// Whether `label` speaks of telephones and nothing else: `mobile` and `cell` name devices and tables too.
pub(super) fn names_telephones(label: &[u8]) -> bool {
    static PHONES: LazyLock<Option<AhoCorasick>> =
        LazyLock::new(|| any_case(["phone", "tel", "fon", "fax", "whatsapp", "handy", "contact"]));
    PHONES.as_ref().is_some_and(|words| words.is_match(label))
}

/// Whether digits under `label` may count something: no plan has such a number. One without quotes has lost its zero.
pub(super) fn may_be_count(value: &[u8], label: &[u8]) -> bool {
    !names_telephones(label)
        && value.iter().all(u8::is_ascii_digit)
        && value.first() != Some(&b'0')
        && !nanp(value)
        && !digits::<15>(value).is_some_and(|(d, len)| in_plan(&d[..len]))
}

/// Whether `value` is written like a decimal: `37.1234567`, not `030.1234567`.
pub(super) fn is_decimal(value: &[u8]) -> bool {
    let (all, count) = groups(value);
    count == 2 && all[1].gap == b"." && value[0] != b'0'
}

/// Whether a text behind the label of a telephone can be its number: as many digits as one has without the code of its
/// country, or with `00` in front of it; no date.
pub(super) fn is_local(value: &[u8]) -> bool {
    let d = || value.iter().filter(|byte| byte.is_ascii_digit());
    let most = if value.starts_with(b"00") { 17 } else { 13 };
    let (all, count) = groups(value);
    let all = &all[..count.min(3)];
    let sizes = |wanted: [usize; 3]| all.iter().map(|group| group.digits.len()).eq(wanted);
    let day = |first: &[u8], month: &[u8]| {
        // `14.07.2016` and `07/14/2016`.
        let of = |a: u32, b: u32| (1..=31).contains(&a) && (1..=12).contains(&b);
        let (first, month) = (number(first), number(month));
        of(first, month) || of(month, first)
    };
    let late = sizes([2, 2, 4])
        && day(all[0].digits, all[1].digits)
        && matches!(number(all[2].digits), 1900..=2099);
    (8..=most).contains(&d().count())
        && d().any(|digit| *digit != value[0])
        && !is_date(all)
        && !late
}

/// The number that up to four digits make.
fn number(digits: &[u8]) -> u32 {
    digits.iter().take(4).fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

/// Latitude and longitude in degrees, minutes and seconds (ISO 6709 annex H): `+3217-06446`, `+321700-0644600`.
fn is_place(groups: &[Group]) -> bool {
    let [latitude, longitude] = groups else { return false };
    let (a, b) = (latitude.digits, longitude.digits);
    let sizes = matches!((a.len(), b.len()), (4, 5) | (6, 7));
    longitude.gap == b"-"
        && sizes
        && number(&a[..2]) <= 90
        && number(&b[..3]) <= 180
        && [&a[2..4], &b[3..5]].iter().all(|minutes| number(minutes) < 60)
}

/// A year, month and day in front: `+20261122-101112`, `+2026-11-22 10`.
fn is_date(groups: &[Group]) -> bool {
    let day = |year: &[u8], month: &[u8], day: &[u8]| {
        matches!(number(year), 1900..=2099)
            && (1..=12).contains(&number(month))
            && (1..=31).contains(&number(day))
    };
    match groups {
        [all, _, ..] if all.digits.len() == 8 => {
            day(&all.digits[..4], &all.digits[4..6], &all.digits[6..])
        }
        [y, m, d, ..] if (y.digits.len(), m.digits.len(), d.digits.len()) == (4, 2, 2) => {
            day(y.digits, m.digits, d.digits)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Mutants: one dot is no fraction; a blank and a minus are a separator; lengths are not asked of bare digits; a place or
    // a day is not told.
    #[test]
    fn a_number_with_a_sign_is_no_telephone_number() {
        for text in [
            "+3.14159265",
            "+339.99118627",
            "+5.926565 -49.854859",
            "+34.0522 118.2437",
            "+33.25 13.50 14.75",
            "+3217-06446",
            "+321723-0644612",
            "+536870912",
            "+34 -12345678",
            "+49 -12345678",
            "+491530-0121500",
            "+20261122-101112",
            "+20261122101112",
            "+2026-11-22 10",
            "+203.0.113.100",
            "+345.678.901",
            "+40.6894-074.0447",
            "+33 12.25 13.50",
            "+34 12345678",
            "+1.4155552671",
        ] {
            assert!(is_signed_number(text.as_bytes(), false), "{text}");
        }
    }

    #[test]
    fn telephone_numbers_with_their_separators_are_no_numbers_with_a_sign() {
        for text in [
            "+14155552671",
            "+1 4155552671",
            "+1-415-555-2671",
            "+1.415.555.2671",
            "+1 (415) 555-2671",
            "+1 (415) 555.2671",
            "+1.415-555-2671",
            "+44 20 7946 0958",
            "+44 (0)20 7946 0958",
            "+442079460958",
            "+44.20.7946.0958",
            "+4915112345678",
            "+49 30 12345678",
            "+49 151 12345678",
            "+49-30-1234-5678",
            "+33 6 12 34 56 78",
            "+33.6.12.34.56.78",
            "+33 1.23.45.67.89",
            "+33612345678",
            "+34 612 345 678",
            "+34612345678",
            "+39 06 1234567",
            "+91 98765 43210",
            "+919876543210",
            "+91-9876543210",
            "+81 90-1234-5678",
            "+55 11 91234-5678",
            "+61 412 345 678",
            "+65 6123 4567",
            "+6561234567",
            "+352 621 123 456",
            "+353871234567",
            "+41 44 668 18 00",
            "+46 8 123 456 78",
            "+7 495 123-45-67",
            "+86 138 0013 8000",
            "+8613800138000",
            "+971 50 123 4567",
            "+972-3-123-4567",
            "+49 30.1234567",
            "+47 22 12 34 56",
            "+4722123456",
        ] {
            assert!(e164(text.as_bytes()), "{text}");
            assert!(!is_signed_number(text.as_bytes(), false), "{text}");
        }
        // Mutant: a label excuses every fraction.
        assert!(!is_signed_number(b"+1.4155552671", true));
        assert!(is_signed_number(b"+3.1415926535", true));
        assert!(is_signed_number(b"+24.514442 -3.758477", true));
        // Mutant: a code of any length, which is more than its number holds.
        assert!(is_signed_number(b"+49123456.7890", true));
    }
}
