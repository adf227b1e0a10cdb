//! Validators: the arithmetic that decides whether a text of the right shape is the real thing.
//!
//! Pure functions over the captured bytes; no regular expressions and no state. A validator named in a
//! rule's `validators` must hold for a match to count; one named in `confirm` only raises confidence
//! (see [`super::rules::Rule::on_confirmed`]), so a mistyped checksum never lets a token through.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::national::{
    aadhaar, base58_wallet, birth_date, bsn, codice_fiscale, dni, eip55, pesel, segwit,
};
use super::people::{
    card, card_any, card_float, cpf, email, iban, itin, nino, public_ipv4, public_ipv6, ssn,
};
use super::telephone::{e164, is_local, nanp};
use super::words::any_case;

/// The checks a rule can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validator {
    /// Luhn sum, a known issuer range and the length of that brand (ISO/IEC 7812).
    Card,
    /// The same with brands and lengths that are rare: for numbers with a label.
    CardAny,
    /// A decimal with an exponent whose digits are a card number (see [`Validator::CardAny`]).
    CardFloat,
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
    /// An address from the blocks of global unicast that registries give out (IANA, RFC 4291 §2.2).
    PublicIpv6,
    /// A mailbox whose domain can exist: labels, a last label of letters that is no file suffix.
    Email,
    /// Twelve digits that begin with 2 to 9 and close Verhoeff's sum (UIDAI).
    Aadhaar,
    /// Weights 1, 3, 7, 9 and a day of birth (Poland, act on the population register).
    Pesel,
    /// The letter of a Spanish DNI or NIE: modulo 23 (Real Decreto 1553/2005).
    Dni,
    /// The last letter of an Italian codice fiscale (DM 23/12/1976).
    CodiceFiscale,
    /// The test of eleven (Netherlands, Besluit BSN).
    Bsn,
    /// A day that people are born on, between 1900 and 2030.
    BirthDate,
    /// Base58Check with version 0 or 5 (Bitcoin).
    Base58Wallet,
    /// Bech32 and bech32m addresses (BIP 173, BIP 350).
    Segwit,
    /// The case of the letters is the checksum (EIP-55).
    Eip55,
    /// CRC-32 of the first 30 characters after the prefix, base 62, in the last six (GitHub, npm).
    Crc32Base62,
    /// The first segment of a JSON Web Token decodes to an object with `alg`.
    JwtHeader,
    /// Base64 of `user:password` (RFC 7617 §2).
    BasicPair,
    /// Upper and lower case or letters and digits mixed, as random keys are and words are not.
    Mixed,
    /// Upper and lower case and digits, as 40 random letters of base 64 have.
    AllKinds,
    /// Mixed, or letters with signs between them that names and references do not have: a password.
    MixedSigns,
    /// No three zero bytes in base 64 (`AAAA`) behind the first two letters: a program or a picture has them in many places, a token in none.
    NotZeros,
    /// Not only hexadecimal digits.
    NotHex,
    /// Eight to thirteen digits, no date: what a telephone number has without the code of its country. Up to fifteen behind
    /// `00`.
    PhoneLength,
    /// The first part decodes to digits only, the number of the account (Discord).
    DiscordId,
    /// Not letters of one case with `_`, `-` and `.` only, as names are.
    NotName,
    /// Not a word that examples put where a password stands: `pass`, `password`, `xyz`.
    NotExampleWord,
    /// Not the name of a secret or a token in place of one: `prod-db-creds-2`, an ARN, `getElementById2`.
    NotReference,
    /// Not the name of a setting or of a text in place of its value, and no key that is public: `NEXT_PUBLIC_KEY1`,
    /// `auth.form.password1`, `%PASSWORD1%`, `pk_live_…`.
    NotSetting,
    /// Not the shape of an identifier that stands in for a value: placeholders, template braces,
    /// words such as `example` or `changeme`, one repeated character, a path, a UUID, a call.
    NotPlaceholder,
    /// No UUID: most of them name something, and open nothing.
    NotUuid,
}

impl Validator {
    /// Every validator with its name in rule files.
    pub const ALL: &'static [(&'static str, Validator)] = &[
        ("card", Validator::Card),
        ("card-any", Validator::CardAny),
        ("card-float", Validator::CardFloat),
        ("iban", Validator::Iban),
        ("us-ssn", Validator::Ssn),
        ("us-itin", Validator::Itin),
        ("uk-nino", Validator::Nino),
        ("br-cpf", Validator::Cpf),
        ("e164", Validator::E164),
        ("nanp", Validator::Nanp),
        ("public-ipv4", Validator::PublicIpv4),
        ("public-ipv6", Validator::PublicIpv6),
        ("email", Validator::Email),
        ("in-aadhaar", Validator::Aadhaar),
        ("pl-pesel", Validator::Pesel),
        ("es-dni", Validator::Dni),
        ("it-codice-fiscale", Validator::CodiceFiscale),
        ("nl-bsn", Validator::Bsn),
        ("birth-date", Validator::BirthDate),
        ("base58-wallet", Validator::Base58Wallet),
        ("segwit", Validator::Segwit),
        ("eip-55", Validator::Eip55),
        ("crc32-base62", Validator::Crc32Base62),
        ("jwt-header", Validator::JwtHeader),
        ("basic-pair", Validator::BasicPair),
        ("mixed", Validator::Mixed),
        ("all-kinds", Validator::AllKinds),
        ("mixed-signs", Validator::MixedSigns),
        ("not-zeros", Validator::NotZeros),
        ("not-hex", Validator::NotHex),
        ("phone-length", Validator::PhoneLength),
        ("discord-id", Validator::DiscordId),
        ("not-name", Validator::NotName),
        ("not-example-word", Validator::NotExampleWord),
        ("not-reference", Validator::NotReference),
        ("not-setting", Validator::NotSetting),
        ("not-placeholder", Validator::NotPlaceholder),
        ("not-uuid", Validator::NotUuid),
    ];

    /// Whether it holds for nothing that [`Validator::CardAny`] does not hold for.
    pub(super) fn is_card(self) -> bool {
        matches!(self, Validator::Card | Validator::CardAny)
    }

    /// The validator called `name`.
    pub fn named(name: &str) -> Option<Validator> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|&(_, validator)| validator)
    }

    /// Its name in rule files.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, other)| *other == self).map_or("", |(name, _)| name)
    }

    /// Whether `value` passes.
    pub fn holds(self, value: &[u8]) -> bool {
        match self {
            Validator::Card => card(value),
            Validator::CardFloat => card_float(value),
            Validator::CardAny => card_any(value),
            Validator::Aadhaar => aadhaar(value),
            Validator::Pesel => pesel(value),
            Validator::Dni => dni(value),
            Validator::CodiceFiscale => codice_fiscale(value),
            Validator::Bsn => bsn(value),
            Validator::BirthDate => birth_date(value),
            Validator::Base58Wallet => base58_wallet(value),
            Validator::Segwit => segwit(value),
            Validator::Eip55 => eip55(value),
            Validator::PhoneLength => is_local(value),
            Validator::DiscordId => discord_id(value),
            Validator::NotName => !name(value),
            Validator::NotExampleWord => !example_word(value),
            Validator::Iban => iban(value),
            Validator::Ssn => ssn(value),
            Validator::Itin => itin(value),
            Validator::Nino => nino(value),
            Validator::Cpf => cpf(value),
            Validator::E164 => e164(value),
            Validator::Nanp => nanp(value),
            Validator::PublicIpv4 => public_ipv4(value),
            Validator::PublicIpv6 => public_ipv6(value),
            Validator::Email => email(value),
            Validator::Crc32Base62 => crc32_base62(value),
            Validator::JwtHeader => jwt_header(value),
            Validator::BasicPair => basic_pair(value),
            Validator::Mixed => mixed(value),
            Validator::AllKinds => all_kinds(value),
            Validator::MixedSigns => mixed(value) || signs(value),
            Validator::NotZeros => {
                memchr::memmem::find(value.get(2..).unwrap_or_default(), b"AAAA").is_none()
            }
            Validator::NotHex => !value.iter().all(u8::is_ascii_hexdigit),
            Validator::NotReference => !reference(value),
            Validator::NotSetting => !setting(value),
            Validator::NotPlaceholder => !placeholder(value),
            Validator::NotUuid => !is_uuid(value),
        }
    }
}

/// Shannon entropy of the bytes of `value`, in bits a byte; 0 for none.
pub fn entropy(value: &[u8]) -> f32 {
    let mut counts = [0u16; 256];
    for &byte in value {
        counts[byte as usize] = counts[byte as usize].saturating_add(1);
    }
    // log2 n - (sum of c log2 c) / n: what stands once, nearly all of a random value, adds nothing.
    let mut repeated = 0.0;
    for &byte in value {
        let count = std::mem::take(&mut counts[byte as usize]);
        if count > 1 {
            repeated += count as f32 * (count as f32).log2();
        }
    }
    match value.len() {
        0 => 0.0,
        length => (length as f32).log2() - repeated / length as f32,
    }
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

fn discord_id(value: &[u8]) -> bool {
    let first = value.split(|&byte| byte == b'.').next().unwrap_or_default();
    base64_any(first).is_some_and(|id| id.len() >= 17 && id.iter().all(u8::is_ascii_digit))
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

fn all_kinds(value: &[u8]) -> bool {
    let tests: [fn(&u8) -> bool; 3] =
        [u8::is_ascii_uppercase, u8::is_ascii_lowercase, u8::is_ascii_digit];
    tests.iter().all(|test| value.iter().any(test))
}

/// Signs that stand in passwords, and between the words of no identifier, path, type or address.
const PASSWORD_SIGNS: &[u8] = b"!#$%*+=?@^`~";

/// Whether `value` has letters of both cases and one of [`PASSWORD_SIGNS`], or two of these. At the ends they are those
/// of prose and templates (`Required!`, `%Password%`), between `^` and `$` of an expression.
fn signs(value: &[u8]) -> bool {
    let is_sign = u8::is_ascii_punctuation;
    let start = value.iter().take_while(|byte| is_sign(byte)).count();
    let end = value.len() - value[start..].iter().rev().take_while(|byte| is_sign(byte)).count();
    let inside = &value[start..end.max(start)];
    let kinds = PASSWORD_SIGNS.iter().filter(|sign| inside.contains(sign)).count();
    let cases =
        inside.iter().any(u8::is_ascii_uppercase) && inside.iter().any(u8::is_ascii_lowercase);
    let expression = value.starts_with(b"^") && value.ends_with(b"$");
    !expression && (kinds >= 2 || (kinds == 1 && cases))
}

fn name(value: &[u8]) -> bool {
    let letters = |test: fn(&u8) -> bool| {
        value.iter().all(|byte| test(byte) || matches!(byte, b'_' | b'-' | b'.'))
    };
    letters(u8::is_ascii_lowercase) || letters(u8::is_ascii_uppercase)
}

/// What examples write where a password would stand, brackets and case aside.
const EXAMPLE_WORDS: &[&str] = &[
    "abc",
    "bar",
    "baz",
    "foo",
    "foobar",
    "123",
    "xyz",
    "xyzzy",
    "test",
    "testing",
    "pass",
    "passwd",
    "passwort",
    "password",
    "passphrase",
    "mypass",
    "mypassword",
    "my-password",
    "my_password",
    "pwd",
    "pw",
    "secret",
    "mysecret",
    "token",
    "mytoken",
];

fn example_word(value: &[u8]) -> bool {
    let bare: Vec<u8> = value
        .iter()
        .filter(|byte| !matches!(byte, b'[' | b']' | b'(' | b')'))
        .map(u8::to_ascii_lowercase)
        .collect();
    EXAMPLE_WORDS.iter().any(|word| *word.as_bytes() == *bare)
}

/// Bound: digits behind a word of a name. With more it may be random.
const NAME_DIGITS_MAX: usize = 3;
/// Bound: letters of a word that tells a name whose other parts are random (`default-token-x7k2p`).
const NAME_WORD_MIN: usize = 4;
/// Bytes of an address on Ethereum, `0x` and 20 bytes in hexadecimal digits: what a `token` is there.
const ADDRESS_BYTES: usize = 42;
/// Bound: letters of such a word where a year ends the name (`k8s-tls-2024`).
const NAME_WORD_DATED_MIN: usize = 3;
/// Signs of tokenizers in front of a piece of a text: its blank, its line end, a word's continuation.
const PIECE_SIGNS: &[&str] = &["\u{120}", "\u{10a}", "\u{2581}", "<|"];

fn year(part: &[u8]) -> bool {
    part.len() == 4 && part.starts_with(b"20") && part.iter().all(u8::is_ascii_digit)
}

/// Whether `value` is the name of a secret or of a token, and not one: words with small numbers, a name of DNS with
/// a word in it, the name of a secret at a cloud, an address, a number; or what a tokenizer calls a token.
fn reference(value: &[u8]) -> bool {
    let digits = |part: &[u8]| part.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let word = |part: &[u8]| {
        let word = &part[..part.len() - digits(part)];
        digits(part) <= NAME_DIGITS_MAX && word.iter().all(u8::is_ascii_alphabetic)
    };
    let mut parts = value.split(|byte| b"-_./:".contains(byte));
    let small = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let dated = value.rsplit(|byte| *byte == b'-').next().is_some_and(year);
    let word_min = if dated { NAME_WORD_DATED_MIN } else { NAME_WORD_MIN };
    let label = |part: &[u8]| {
        part.len() >= word_min
            && part.len() < value.len()
            && part.iter().all(u8::is_ascii_alphabetic)
    };
    let dns = || {
        value.iter().all(|byte| small(byte) || matches!(byte, b'-' | b'.'))
            && value.split(|byte| matches!(byte, b'-' | b'.')).any(label)
    };
    let address = value.len() == ADDRESS_BYTES
        && value.starts_with(b"0x")
        && value[2..].iter().all(u8::is_ascii_hexdigit);
    let cloud = value.starts_with(b"arn:") || value.starts_with(b"projects/");
    let number = value.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'.'));
    // Behind `##` stands the end of a word in small letters.
    let piece = PIECE_SIGNS.iter().any(|sign| value.starts_with(sign.as_bytes()))
        || value.strip_prefix(b"##").is_some_and(|rest| rest.iter().all(small));
    address || cloud || number || piece || parts.all(word) || dns()
}

/// Words that the name of a setting holds, in lower case.
const SETTING_WORDS: &[&str] = &["key", "pass", "passwd", "password", "pwd", "secret", "token"];
/// Bound: words of such a name. Of two, people make passwords (`Password-12`).
const SETTING_WORDS_MIN: usize = 3;
/// Bound: letters and digits of a publishable key.
const PUBLIC_KEY_MIN: usize = 8;
/// Bound: digits behind each word.
const SETTING_DIGITS_MAX: usize = 2;

/// Whether `value` names a setting or a text for people: three words or more, one of [`SETTING_WORDS`] among them, or
/// one in the brackets of a template; or is a key that its service calls public.
fn setting(value: &[u8]) -> bool {
    let public = [&b"pk_live_"[..], b"pk_test_"].iter().find_map(|head| value.strip_prefix(*head));
    if let Some(key) = public {
        return key.len() >= PUBLIC_KEY_MIN && key.iter().all(u8::is_ascii_alphanumeric);
    }
    let one_case =
        !value.iter().any(u8::is_ascii_uppercase) || !value.iter().any(u8::is_ascii_lowercase);
    let bare = match value {
        [b'%', inside @ .., b'%'] | [b'{', inside @ .., b'}'] if one_case => inside,
        _ => value,
    };
    let (mut words, mut named, mut titles) = (0, false, 0);
    for part in bare.split(|byte| b"_-.:".contains(byte)) {
        let hump = |pair: &[u8]| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase();
        let mut rest = part;
        while !rest.is_empty() {
            let end = rest.windows(2).position(hump).map_or(rest.len(), |at| at + 1);
            let letters = rest[..end].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            let digits = &rest[letters..end];
            if digits.len() > SETTING_DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
                return false;
            }
            words += usize::from(letters > 0);
            // `My_Secret_Password`, as people write a password of words.
            let title = |word: &[u8]| {
                word.len() > 1
                    && word[0].is_ascii_uppercase()
                    && word[1..].iter().all(u8::is_ascii_lowercase)
            };
            titles += usize::from(title(&rest[..letters]));
            let is = |word: &&str| word.as_bytes().eq_ignore_ascii_case(&rest[..letters]);
            named |= SETTING_WORDS.iter().any(is);
            rest = &rest[end..];
        }
    }
    named && (words >= SETTING_WORDS_MIN && titles < words || bare.len() < value.len())
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
    // References to where a secret is kept, and rules for what is typed.
    "arn:aws",
    "/secrets/",
    "%env(",
    "#{",
    "|min:",
    "|max:",
];

fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36
        && value.iter().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn placeholder(value: &[u8]) -> bool {
    static WORDS: LazyLock<Option<AhoCorasick>> =
        LazyLock::new(|| any_case(PLACEHOLDER_WORDS.iter().chain(&["://"])));
    let repeated = value
        .first()
        .is_some_and(|first| value.iter().all(|byte| byte.eq_ignore_ascii_case(first)));
    let word = WORDS.as_ref().is_some_and(|words| words.is_match(value));
    let path = matches!(value.first(), Some(b'/' | b'.' | b'~' | b'$' | b'@'));
    let file = [&b"file:"[..], b"#/"].iter().any(|head| value.starts_with(head));
    let call = matches!(value.last(), Some(b')' | b'(' | b';'));
    repeated || word || path || file || call
}

#[cfg(test)]
mod tests {
    use super::*;

    // Mutants: the first word is left out, or the last; an address is no placeholder; capitals are not folded.
    #[test]
    fn every_word_that_stands_in_for_a_value_is_known_in_any_case() {
        for word in PLACEHOLDER_WORDS.iter().chain(&["://"]) {
            for word in [word.to_ascii_uppercase(), (*word).to_owned()] {
                let value = format!("k7{word}q9");
                assert!(!Validator::NotPlaceholder.holds(value.as_bytes()), "{value}");
            }
        }
        assert!(Validator::NotPlaceholder.holds(b"k7exam-pleq9"));
    }

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

    // Mutants: digits of a word without a bound; a name of DNS without a word.
    #[test]
    fn a_name_of_a_secret_is_none() {
        for name in [
            "prod-db-creds-2",
            "default-token-x7k2p",
            "getElementById2",
            "projects/p1/secrets/x4y5z6/versions/1",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-a1B2c3",
            "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
        ] {
            assert!(!Validator::NotReference.holds(name.as_bytes()), "{name}");
        }
        for secret in [
            "S3cr3tPw99Abc",
            "c0rrect-h0rse-9",
            "hunter2026Winter2026",
            "Winter-20261",
            "7f9c-8d2e-11aa",
            "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48aa",
        ] {
            assert!(Validator::NotReference.holds(secret.as_bytes()), "{secret}");
        }
    }

    // Mutants: a piece without a year is a name with a short word; numbers are none; no piece is known.
    #[test]
    fn a_piece_of_a_text_is_no_token() {
        for piece in
            ["\u{120}part67", "\u{2581}Abc1", "##ing2b", "<|end1|>", "1,234,567.89", "k8s-tls-2026"]
        {
            assert!(!Validator::NotReference.holds(piece.as_bytes()), "{piece}");
        }
        for secret in ["##S3cr3tPw99Abc", "P\u{e4}ssw0rd99", "k8s-tls-a9x2", "1,234,567x89"] {
            assert!(Validator::NotReference.holds(secret.as_bytes()), "{secret}");
        }
    }

    // Mutants: two words are a setting; digits without a bound; humps are no borders; no word is asked for; brackets
    // around anything.
    #[test]
    fn a_name_of_a_setting_is_no_password() {
        for name in [
            "NEXT_PUBLIC_KEY3",
            "API_KEY_V4",
            "header:X-API-Key-1",
            "apiKeyAuth2",
            "signin.form.password2",
            "lbl_password_text_3",
            "errors.password.min12",
            "%PASSWORD2%",
            "{password3}",
            "env.API_KEY_7",
            "pk_live_51H7dXyQk2",
        ] {
            assert!(!Validator::NotSetting.holds(name.as_bytes()), "{name}");
        }
        for secret in [
            "Password-12",
            "Password123",
            "My_Password12",
            "My_Secret_Password12",
            "my_secret_password123",
            "Secret-Garden-Key7",
            "{Secret12}",
            "%Secret12%",
            "pk_live_Hunter2!xyz",
            "Winter-Summer-Token9x",
            "correct-horse-battery9",
            "{Winter26}",
            "sk_live_51H7dXyQk2",
            "key-83b1f0",
            "S3cr3t-key-token",
        ] {
            assert!(Validator::NotSetting.holds(secret.as_bytes()), "{secret}");
        }
    }

    // Mutants: signs at the ends count; one sign does among letters of one case; an expression is a password.
    #[test]
    fn letters_and_signs_are_a_password_without_a_digit() {
        for secret in ["Horse!Staple", "qT=vKz~Lw", "horse*staple!x", "!aB#cD", "w0rd-w0rd"] {
            assert!(Validator::MixedSigns.holds(secret.as_bytes()), "{secret}");
        }
        for word in [
            "Required!",
            "Correct-Horse",
            "horse*staple",
            "forms.Password",
            "*Password*",
            "[String!]!",
            "List[SecretStr]",
            "Str|None",
            "^[A-Z!?][a-z#+]$",
            "@{Password}",
            "!?",
            "Passwort:",
        ] {
            assert!(!Validator::MixedSigns.holds(word.as_bytes()), "{word}");
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
